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

// Search finds the stores of one side that can be delayed, and for how long, and its loads
// that may be passed by later ones.
type Search struct {
	runner *Runner
	all    Store
	stores accesses // of the second side, where the first reads
	loads  accesses // of the second side, where the first writes; none if they are in order
	others accesses // of the first side
	firsts accesses // those of them that are in conflict with the second

	// Stores are how many instructions of the second side store where others may
	// look, Read how many of them where the first does, and Firsts where the first is
	// held up. Loads are how many instructions of the second side load where the first
	// writes.
	Stores, Read, Firsts, Loads int
	// Followed is how many windows were followed so far.
	Followed int
	// RuledOut counts why no window is longer, or why a store is not delayed.
	RuledOut map[string]int
}

// Found is a window, and what is tried in it, but for the load.
type Found struct {
	Order Store
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
	if !order.InOrder {
		written := slices.DeleteFunc(slices.Clone(first), func(a *access) bool { return !a.Writes })
		s.loads = slices.DeleteFunc(slices.Clone(second).among(written), func(a *access) bool { return a.Writes || a.EndsLoads() != nil })
	}
	s.others, s.firsts = first, first.among(second)
	s.Read, s.Firsts, s.Loads = len(s.stores), len(s.firsts), len(s.loads)
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
			one := s.all
			one.First = first.Point
			for _, store := range s.stores {
				if !s.windows(one, store, yield) {
					return
				}
			}
			one.Early = &Early{}
			for _, load := range s.loads {
				if !s.windows(one, load, yield) {
					return
				}
			}
		}
	}
}

// windows yields those of one instruction, and says whether to go on.
func (s *Search) windows(one Store, of *access, yield func(*Found, error) bool) bool {
	for nth := 1; nth <= min(of.times, mostTimes); nth++ {
		one.Store = Step{of.Point, nth}
		if one.Early != nil {
			// Most loads read what they have read in any order.
			why, err := s.runner.changes(one)
			if err != nil {
				yield(nil, err)
				return false
			}
			if why == nil {
				s.RuledOut["not executed then"]++
				return true
			}
			if why[0] != "" {
				s.RuledOut[why[0]]++
				continue
			}
		}
		w, err := s.runner.window(one, s.others)
		if err == nil && w != nil && one.Early != nil {
			err = s.changed(one, w)
		}
		if err != nil {
			yield(nil, err)
			return false
		}
		if w == nil {
			s.RuledOut["not executed then"]++
			return true
		}
		s.Followed++
		if w.Ends != nil {
			s.RuledOut[w.Ends.Name]++
		} else {
			s.RuledOut[w.Why]++
		}
		for _, rule := range w.Ordered {
			s.RuledOut[rule.Name]++
		}
		if !yield(&Found{one, w}, nil) {
			return false
		}
	}
	return true
}

// changed leaves those loads in the window that read what the first side changes.
func (s *Search) changed(one Store, w *Window) error {
	var where []order.Location
	for _, l := range w.Loads {
		where = append(where, l.At)
	}
	if len(where) == 0 {
		return nil
	}
	why, err := s.runner.changes(one, where...)
	if err != nil || why == nil {
		return err
	}
	var loads []Load
	for i, l := range w.Loads {
		if why[i+1] == "" {
			loads = append(loads, l)
		} else {
			s.RuledOut[why[i+1]]++
		}
	}
	w.Loads = loads
	return nil
}

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
