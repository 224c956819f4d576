package schedule

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/order"
	"github.com/ringproof/ringproof/inject/stage"
)

// Window is what a CPU executes while a store of its may wait to become visible, or a load
// of its, which is Store then, may not be executed yet.
type Window struct {
	Store Step
	At    order.Location
	// Loads are those behind which it may still be invisible. If stores are not in
	// order, stores are among them. If Store is a load, they are those that may be
	// executed before it.
	Loads []Load
	// Ordered is why others are not among these.
	Ordered []*order.Rule
	// Ends is the rule that ends the window, and By the instruction; nil if it could
	// not be followed any further, which Why says.
	Ends *order.Rule
	By   disasm.Point
	Why  string
}

// Load is a load, and where it reads.
type Load struct {
	Step
	Early
}

// Find returns the load if the store may still be invisible behind it; nil if not.
func (w *Window) Find(load Step) *Load {
	if w == nil {
		return nil
	}
	if i := slices.IndexFunc(w.Loads, func(l Load) bool { return l.Step == load }); i >= 0 {
		return &w.Loads[i]
	}
	return nil
}

// String is what the window is, for errors.
func (w *Window) String() string {
	if w == nil {
		return "it is not executed"
	}
	ends := w.Why
	if w.Ends != nil {
		ends = fmt.Sprintf("%s (%s)", w.Ends.Says, w.By.Text)
	}
	return fmt.Sprintf("%d loads may pass it, up to %v: %s", len(w.Loads), w.By, ends)
}

// longest is how many instructions of a window are followed at most. A store buffer
// has fewer entries, and drains by itself.
const longest = 200

// Window follows what the second side of s executes from its store on, with the first
// held up at s.First. It is nil if the store is not executed then.
func (r *Runner) Window(s Store) (*Window, error) {
	if r.alone == 0 {
		alone := s
		alone.First = disasm.Point{}
		if _, err := r.overlap(alone, meanwhile{}, stage.Suspicion); err != nil {
			return nil, err
		}
	}
	return r.window(s, nil)
}

// window does that, where some of what the first side reads is known.
func (r *Runner) window(s Store, known accesses) (*Window, error) {
	f := follower{
		record: func(places []breakpoint.Place, after int) ([]breakpoint.Record, error) {
			_, err := r.overlap(s, meanwhile{places: places, after: after}, stage.Suspicion)
			records, _ := r.recorder.Records()
			return records, err
		},
		sees: func(at Step, l order.Location) (bool, error) {
			if known.read(l) {
				return true, nil
			}
			return r.sees(s, at, l)
		},
	}
	if s.Early != nil {
		f.passing = &passing{}
		f.record = func(places []breakpoint.Place, after int) ([]breakpoint.Record, error) {
			result, err := r.overlap(s, r.held(s, places), stage.Suspicion)
			if err != nil || !result.Reached {
				return nil, err // it may have come there since
			}
			records, _ := r.recorder.Records()
			return records, nil
		}
	}
	return f.follow(s.Store)
}

// tries is how often a CPU is given the chance to come by an instruction: no two runs
// are the same on a busy machine.
const tries = 3

// follower follows what is executed from a store on.
type follower struct {
	// record has it executed, and returns what was recorded at the places from when
	// the first of them, which is the store, was executed for the nth time on.
	record func(places []breakpoint.Place, after int) ([]breakpoint.Record, error)
	// sees says whether others come by the location while it is held up at the step,
	// with its store not visible yet.
	sees func(at Step, l order.Location) (bool, error)

	// passing finds loads that may be executed early; nil if it is a store that is late.
	passing *passing

	// ordered: stores that are executed from now on become visible after it.
	ordered bool

	points map[uint64]disasm.Point        // by address
	logs   map[uint64][]breakpoint.Record // by address of the instruction
}

// at returns the instruction at an address.
func (f *follower) at(addr uint64) (disasm.Point, error) {
	if p, ok := f.points[addr]; ok {
		return p, nil
	}
	function, err := disasm.Holding(addr)
	if err != nil {
		return disasm.Point{}, err
	}
	f.know(function)
	if p, ok := f.points[addr]; ok {
		return p, nil
	}
	return disasm.Point{}, fmt.Errorf("no instruction of %s begins at %#x", function.Name, addr)
}

func (f *follower) know(function *disasm.Function) {
	if f.points == nil {
		f.points = make(map[uint64]disasm.Point)
	}
	for _, p := range function.Points {
		f.points[p.Addr] = p
	}
}

// learn records what is executed at p and, since that costs no more, at what may
// follow.
func (f *follower) learn(store Step, p disasm.Point) error {
	places := []breakpoint.Place{{Point: store.Point}}
	for next := []uint64{p.Addr}; len(next) > 0 && len(places) < breakpoint.Places; next = next[1:] {
		q, err := f.at(next[0])
		if err != nil {
			continue
		}
		next = append(next, order.Ahead(q)...)
		if known := slices.ContainsFunc(places, func(p breakpoint.Place) bool { return p.Addr == q.Addr }); !known && (q.Addr == p.Addr || f.logs[q.Addr] == nil) {
			places = append(places, breakpoint.Place{Point: q})
		}
	}
	records, err := f.record(places, store.Nth)
	if err != nil {
		return err
	}
	for _, p := range places {
		f.logs[p.Addr] = slices.DeleteFunc(slices.Clone(records), func(r breakpoint.Record) bool { return r.PC != p.Addr })
	}
	return nil
}

func (f *follower) follow(store Step) (*Window, error) {
	f.logs = make(map[uint64][]breakpoint.Record)
	f.ordered = order.InOrder
	w := &Window{Store: store}
	visits := make(map[uint64]int)
	p := store.Point
	for range longest {
		n := visits[p.Addr]
		for try := 0; try < tries && n >= len(f.logs[p.Addr]); try++ {
			if err := f.learn(store, p); err != nil {
				return nil, err
			}
		}
		if n >= len(f.logs[p.Addr]) {
			if p.Addr == store.Addr && n == 0 {
				return nil, nil
			}
			w.By, w.Why = p, "not executed again"
			return w, nil
		}
		visits[p.Addr]++
		regs := &f.logs[p.Addr][n].Registers
		e := order.Of(p)
		l := order.Location{Addr: e.Operand.Address(regs), Bytes: e.Operand.Bytes}
		var err error
		if p.Addr == store.Addr && n == 0 {
			w.At = l
		}
		if p.Addr != store.Addr || n > 0 || f.passing != nil {
			w.Ends, err = f.ends(e, w.At, l, regs, Step{p, n + 1})
		}
		if w.By = p; w.Ends != nil || err != nil {
			return w, err
		}
		mine := e.Private || order.OnStack(l.Addr, regs)
		if f.passing != nil {
			if f.passing.next(w, p, e, l, mine, visits[p.Addr]); w.Ends != nil {
				return w, nil
			}
		} else if (e.Reads || e.Writes && !order.InOrder) && !mine && !e.Branches && !l.Overlaps(w.At) {
			behind := p.Addr + uint64(len(p.Code))
			w.Loads = append(w.Loads, Load{Step{p, visits[behind] + 1}, Early{At: l}})
		}
		next, err := order.Next(p, regs, disasm.Read)
		if err == nil {
			p, err = f.at(next)
		}
		if err != nil {
			w.Why = err.Error()
			return w, nil
		}
	}
	w.Why = fmt.Sprintf("%d instructions were followed", longest)
	return w, nil
}

// ends is the rule by which the store at a location, that is delayed so far, does not
// become visible after the instruction; nil if there is none.
func (f *follower) ends(e order.Effect, delayed, l order.Location, regs *order.Registers, at Step) (*order.Rule, error) {
	switch {
	case f.passing != nil:
		return e.EndsLoads(), nil
	case e.Ends != nil:
		return e.Ends, nil
	case e.OrdersStores:
		f.ordered = true
		return nil, nil
	case !e.Reads && !e.Writes || e.Private || order.OnStack(l.Addr, regs):
		return nil, nil
	case e.Reads && l.Overlaps(delayed) && !delayed.Contains(l):
		return order.OwnRead, nil
	case e.Writes && l.Overlaps(delayed) && !order.InOrder:
		return order.SameLocation, nil
	case !e.Writes || !f.ordered:
		return nil, nil
	}
	seen, err := f.sees(at, l)
	if seen && !order.InOrder {
		return order.StoreBarrier, err
	}
	if seen {
		return order.LaterStore, err
	}
	return nil, err
}

// sees says whether the first side comes by the location when it goes on while the
// second is about to store there, with its first store not visible yet. If that cannot
// be told, it does.
func (r *Runner) sees(s Store, at Step, l order.Location) (bool, error) {
	touches, err := r.recorder.CountTouches(operatorCPU, l)
	if err != nil {
		return true, err
	}
	for range 4 {
		r.touches = touches
		result, d, err := r.delayed(s, at, stage.Suspicion)
		r.touches = nil
		if err != nil || result.Decisive() && !result.Locked {
			return d == nil || d.Touched || d.Prevented != "", errors.Join(err, touches.Close())
		}
	}
	return true, touches.Close()
}
