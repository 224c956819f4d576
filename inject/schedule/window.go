package schedule

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/order"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/guest/driver"
)

// shared are prefixes of the names of functions outside a driver by which its two sides
// know of each other (include/linux/ptr_ring.h, net/core/dev.c).
var shared = []string{"ptr_ring_", "__ptr_ring_", "netif_tx_wake_queue"}

// sharing are the functions of a target whose stores are delayed.
func sharing(t driver.Target) ([]*disasm.Function, error) {
	t.Also = slices.Concat(t.Also, shared)
	return Functions(t)
}

// accesses are what one side does with memory that is not its own.
type accesses []*access

// access is an instruction, and where its operand was each time.
type access struct {
	disasm.Point
	order.Effect
	at    []order.Location // each once
	times int
}

// touches says whether the access has been at the location.
func (a *access) touches(l order.Location) bool {
	return slices.ContainsFunc(a.at, l.Overlaps)
}

// conflicts says whether the two have been at one location, which one of them wrote.
func (a *access) conflicts(b *access) bool {
	return (a.Writes || b.Writes) && slices.ContainsFunc(a.at, b.touches)
}

// among returns those that conflict with one of the others.
func (as accesses) among(others accesses) accesses {
	return slices.DeleteFunc(slices.Clone(as), func(a *access) bool { return !slices.ContainsFunc(others, a.conflicts) })
}

// read says whether one of them reads the location.
func (as accesses) read(l order.Location) bool {
	return slices.ContainsFunc(as, func(a *access) bool { return a.Reads && a.touches(l) })
}

// accesses finds out which memory the instructions of the functions read and write,
// when the second side of s executes them.
func (r *Runner) accesses(s Store, functions []*disasm.Function) (found accesses, err error) {
	var places []breakpoint.Place
	var effects []order.Effect
	for _, f := range functions {
		for _, p := range f.Points {
			if e := order.Of(p); (e.Reads || e.Writes) && !e.Private && e.Operand.Bytes > 0 {
				places = append(places, breakpoint.Place{Point: p})
				effects = append(effects, e)
			}
		}
	}
	for i := 0; i < len(places); i += breakpoint.Places {
		batch := places[i:min(i+breakpoint.Places, len(places))]
		_, err := r.overlap(s, meanwhile{places: batch}, stage.Suspicion)
		if cannot := (*breakpoint.CannotHoldError)(nil); errors.As(err, &cannot) {
			continue
		}
		if err != nil {
			return nil, err
		}
		records, _ := r.recorder.Records()
		for j, p := range batch {
			a := &access{Point: p.Point, Effect: effects[i+j]}
			for _, record := range records {
				if record.PC != p.Addr {
					continue
				}
				l := order.Location{Addr: a.Operand.Address(&record.Registers), Bytes: a.Operand.Bytes}
				if order.OnStack(l.Addr, &record.Registers) {
					continue
				}
				a.times++
				if !slices.Contains(a.at, l) {
					a.at = append(a.at, l)
				}
			}
			if a.times > 0 {
				found = append(found, a)
			}
		}
	}
	return found, nil
}

// Window is what a CPU executes while a store of its may wait to become visible.
type Window struct {
	Store Step
	At    order.Location
	// Loads are those behind which it may still be invisible. If stores are not in
	// order, stores are among them.
	Loads []Load
	// Ends is the rule that ends the window, and By the instruction; nil if it could
	// not be followed any further, which Why says.
	Ends *order.Rule
	By   disasm.Point
	Why  string
}

// Load is a load, and where it reads.
type Load struct {
	Step
	At order.Location
}

// Has says whether the store may still be invisible behind the load.
func (w *Window) Has(load Step) bool {
	return w != nil && slices.ContainsFunc(w.Loads, func(l Load) bool { return l.Step == load })
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
	return fmt.Sprintf("it may be visible behind %d loads, up to %v: %s", len(w.Loads), w.By, ends)
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
		} else {
			w.Ends, err = f.ends(e, w.At, l, regs, Step{p, n + 1})
		}
		if w.By = p; w.Ends != nil || err != nil {
			return w, err
		}
		mine := e.Private || order.OnStack(l.Addr, regs)
		if (e.Reads || e.Writes && !order.InOrder) && !mine && !e.Branches && !l.Overlaps(w.At) {
			behind := p.Addr + uint64(len(p.Code))
			w.Loads = append(w.Loads, Load{Step{p, visits[behind] + 1}, l})
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
			return d == nil || d.Touched || d.Prevented() != "", errors.Join(err, touches.Close())
		}
	}
	return true, touches.Close()
}

// Search finds the stores of one side that can be delayed, and for how long.
type Search struct {
	runner *Runner
	all    Store
	stores accesses // of the second side, where the first reads
	others accesses // of the first side
	firsts accesses // those of them that are in conflict with the second

	// Stores are how many instructions of the second side store where others may
	// look, Read how many of them where the first does, and Firsts where the first is
	// held up.
	Stores, Read, Firsts int
	// Followed is how many windows were followed so far.
	Followed int
	// RuledOut counts why no window is longer, or why a store is not delayed.
	RuledOut map[string]int
}

// Found is a window, and where the first side is held up meanwhile.
type Found struct {
	First disasm.Point
	*Window
}

// mostTimes is for how many of the executions of a store it is delayed.
const mostTimes = 2

// Search looks at which memory both sides of a driver's device come by, in the setting
// of all. What the kernel lacks is a *kernelfeature.MissingError.
func (r *Runner) Search(drv *driver.Driver, all Store) (*Search, error) {
	s := &Search{runner: r, all: all, RuledOut: make(map[string]int)}
	var both [2]accesses // of producer and consumer
	for _, target := range drv.Targets {
		if target.Consumer != all.Consumer {
			continue
		}
		functions, err := sharing(target)
		if err != nil {
			return nil, err
		}
		as := all
		as.First, as.ConsumerFirst = disasm.Point{}, !target.Consumes
		side := 0
		if target.Consumes {
			side = 1
		}
		found, err := r.accesses(as, functions)
		if err != nil {
			return nil, err
		}
		both[side] = append(both[side], found...)
	}
	first, second := both[0], both[1]
	if all.ConsumerFirst {
		first, second = second, first
	}
	for _, a := range second {
		if !a.Writes || a.Ends != nil {
			continue
		}
		if a.Atomic && !a.Bits {
			// What it says was there depends on when it becomes visible.
			s.RuledOut["atomic instruction with a result"]++
			continue
		}
		s.Stores++
		if a.Operand.Bytes > longestStore {
			s.RuledOut[fmt.Sprintf("more than %d bytes", longestStore)]++
			continue
		}
		looked := slices.ContainsFunc(a.at, first.read)
		if !looked {
			var err error
			if looked, err = r.looksAt(all, a, first); err != nil {
				return nil, err
			}
		}
		if looked {
			s.stores = append(s.stores, a)
		} else {
			s.RuledOut["the other side does not read it"]++
		}
	}
	s.others, s.firsts = first, first.among(second)
	s.Read, s.Firsts = len(s.stores), len(s.firsts)
	return s, nil
}

// looksAt says whether the first side comes by what the second has stored, in whatever
// function, when it begins with the second held up where the window of the store ends: a
// packet is looked at by functions outside a driver, too, once it is in the ring.
func (r *Runner) looksAt(s Store, a *access, known accesses) (looked bool, err error) {
	s.First, s.Store = disasm.Point{}, Step{a.Point, 1}
	w, err := r.window(s, known)
	if err != nil || w == nil || len(w.Loads) == 0 {
		return false, err
	}
	last := w.Loads[len(w.Loads)-1]
	behind, err := pointAt(last.Addr + uint64(len(last.Code)))
	if err != nil {
		return false, err
	}
	touches, err := r.recorder.CountTouches(operatorCPU, a.at[0])
	if err != nil {
		return false, err
	}
	_, err = r.overlap(s, meanwhile{
		places: []breakpoint.Place{{Point: a.Point}}, after: 1, trap: behind, passes: last.Nth - 1,
		act: func(_ *stage.Result, goOn func()) error {
			records, _ := r.recorder.Records()
			if len(records) == 0 {
				return errors.New("the store was not recorded")
			}
			// A packet is not where that of another run was.
			counts, err := touches.Move(order.Location{Addr: a.Operand.Address(&records[0].Registers), Bytes: a.Operand.Bytes})
			if err != nil || !counts {
				return err
			}
			r.finishes(goOn)
			n, err := touches.Count()
			looked = n > 0
			return err
		},
	}, stage.Suspicion)
	return looked, errors.Join(err, touches.Close())
}

// Known says whether the first side is known to write what the load reads.
func (s *Search) Known(l Load) bool {
	return slices.ContainsFunc(s.firsts, func(a *access) bool { return a.Writes && a.touches(l.At) })
}

// Windows yields all windows in turn.
func (s *Search) Windows() func(yield func(*Found, error) bool) {
	return func(yield func(*Found, error) bool) {
		for _, first := range s.firsts {
			for _, store := range s.stores {
				for nth := 1; nth <= min(store.times, mostTimes); nth++ {
					one := s.all
					one.First, one.Store = first.Point, Step{store.Point, nth}
					w, err := s.runner.window(one, s.others)
					if err != nil {
						yield(nil, err)
						return
					}
					if w == nil {
						s.RuledOut["not executed then"]++
						break
					}
					s.Followed++
					if w.Ends != nil {
						s.RuledOut[w.Ends.Name]++
					} else {
						s.RuledOut[w.Why]++
					}
					if !yield(&Found{first.Point, w}, nil) {
						return
					}
				}
			}
		}
	}
}
