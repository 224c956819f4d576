package schedule

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/cpu"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/memory"
	"github.com/ringproof/ringproof/inject/order"
	"github.com/ringproof/ringproof/inject/stage"
)

// Early is where a load reads that is executed before an earlier one. The second side is
// held up before the earlier load, and what is at the location by then is noted. The first
// side goes on to its end. The second goes on, with the earlier load, and is held up before
// the load. What was noted is put there for as long as the load is executed.
type Early struct {
	At order.Location
	// Needs are where the loads read that its address was computed from. They are
	// executed early with it, so they must read what they have read.
	Needs []order.Location
}

// passing finds the loads that may be executed before the first of a window.
type passing struct {
	order.Dependencies
	loads []order.Location // so far, by their numbers
}

// next takes the next instruction of a window into account, the nth execution of p.
func (ps *passing) next(w *Window, p disasm.Point, e order.Effect, l order.Location, mine bool, nth int) {
	n, again := order.Nobody, ps.Stored(l) || slices.ContainsFunc(ps.loads, l.Overlaps)
	loads := e.Reads && !mine
	if loads {
		n = len(ps.loads)
		ps.loads = append(ps.loads, l)
	}
	address, ok := ps.Execute(p, e, l, n)
	switch {
	case !ok:
		w.Ends = order.Unknown
	case n <= 0 || e.Writes:
	case again:
		w.Ordered = append(w.Ordered, order.ReadBefore)
	case address.Has(0):
		w.Ordered = append(w.Ordered, order.AddressDependency)
	case p.Addr == w.Store.Addr, p.Addr+uint64(len(p.Code)) == w.Store.Addr, l.Bytes > longestStore:
		// One breakpoint would be at the place of another, or no more is noted.
	default:
		load := Load{Step{p, nth}, Early{At: l}}
		for i, need := range ps.loads {
			if address.Has(i) {
				load.Needs = append(load.Needs, need)
			}
		}
		w.Loads = append(w.Loads, load)
	}
}

// held has the second side held up before its earlier load, while the first goes on to its
// end. What it executes from there on is recorded at the places, of which the first must be
// that load.
func (r *Runner) held(s Store, places []breakpoint.Place) meanwhile {
	return meanwhile{
		places: places, after: s.Store.Nth, trap: s.Store.Point, passes: s.Store.Nth - 1, anyTime: true, holds: "is held up before its loads",
		act: func(result *stage.Result, goOn func()) error {
			result.Locked = !r.finishes(goOn)
			return nil
		},
	}
}

// changes says of the location of the earlier load, and of the others, whether the first
// side changes what is there while the second is held up before that load: "", or why it
// cannot be told from not doing so. It is nil if the load is not executed then.
func (r *Runner) changes(s Store, others ...order.Location) (why []string, err error) {
	m := r.held(s, nil)
	m.act = func(result *stage.Result, goOn func()) error {
		was, now, err := r.watched(s, others, result, goOn)
		for i := range was {
			why = append(why, unlike(was[i], now[i]))
		}
		return err
	}
	for try := 0; try < tries && why == nil && err == nil; try++ {
		_, err = r.overlap(s, m, stage.Suspicion)
	}
	return why, err
}

// watched lets the first side go on to its end while the second is held up before its
// earlier load, and returns what was at the location of that, and at the others, before and
// after; nil where that cannot be read. If the first needs a lock of the second, that is
// the same.
func (r *Runner) watched(s Store, others []order.Location, result *stage.Result, goOn func()) (was, now [][]byte, err error) {
	regs := r.trap.Registers()
	operand := order.Of(s.Store.Point).Operand
	where := append([]order.Location{{Addr: operand.Address(&regs), Bytes: operand.Bytes}}, others...)
	read := func() (there [][]byte) {
		for _, l := range where {
			content := make([]byte, l.Bytes)
			failed := r.memory.Read(l.Addr, content)
			if not := (*memory.NotMappedError)(nil); errors.As(failed, &not) {
				content, failed = nil, nil
			}
			there, err = append(there, content), errors.Join(err, failed)
		}
		return there
	}
	was = read()
	result.Note(s.sides()[0], "goes on")
	if result.Locked = !r.finishes(goOn); result.Locked {
		return was, was, err
	}
	result.Note(s.sides()[0], "is done")
	return was, read(), err
}

// unchanged is why an order is not acted out that nobody could tell from another.
const unchanged = "the other side does not change it"

// unlike is "" if the two can be told apart, or why not.
func unlike(was, now []byte) string {
	switch {
	case was == nil:
		return unmapped
	case bytes.Equal(was, now):
		return unchanged
	}
	return ""
}

// earlier has the load of s executed early. The instruction behind it is given.
func (r *Runner) earlier(s Store, d *Delay, behind disasm.Point) meanwhile {
	m := r.held(s, nil)
	m.then = []disasm.Point{s.Load.Point, behind}
	m.act = func(result *stage.Result, goOn func()) error {
		d.At = s.Early.At
		was, now, err := r.watched(s, slices.Concat([]order.Location{d.At}, s.Early.Needs), result, goOn)
		if err != nil {
			return err
		}
		for i := range was {
			why := unlike(was[i], now[i])
			switch {
			case i >= 2 && why == "":
				d.Prevented = order.AddressDependency.Name
			case i < 2 && why != "", why == unmapped:
				d.Prevented = why
			}
		}
		if d.Prevented != "" || result.Locked {
			return nil
		}
		if !r.goesOn(s.Load) {
			d.Prevented = "not executed again"
			return nil
		}
		regs := r.trap.Registers()
		if operand := order.Of(s.Load.Point).Operand; operand.Address(&regs) != d.At.Addr {
			d.Prevented = "it reads elsewhere"
			return nil
		}
		return r.load(s, d, was[1], now[1], behind, result)
	}
	return m
}

// load has the load of s, before which the second side is held up, read what was there, and
// the second held up behind it.
func (r *Runner) load(s Store, d *Delay, was, now []byte, behind disasm.Point, result *stage.Result) error {
	d.Old, d.New = value(was), value(now)
	there := make([]byte, len(now))
	if err := r.memory.Read(d.At.Addr, there); err != nil {
		return err
	}
	if !bytes.Equal(there, now) {
		d.Prevented = overwritten
		return nil
	}
	if err := r.memory.Write(d.At.Addr, was); err != nil {
		return err
	}
	loaded := r.goesOn(Step{behind, 1})
	if err := r.memory.Read(d.At.Addr, there); err != nil {
		return err
	}
	if !bytes.Equal(there, was) {
		d.Prevented = overwritten
		// Others keep the bits that they have changed since.
		for i := range there {
			changed := there[i] ^ was[i]
			now[i] = there[i]&changed | now[i]&^changed
		}
	}
	if err := r.memory.Write(d.At.Addr, now); err != nil {
		return err
	}
	if !loaded {
		return fmt.Errorf("%v (%s) was not followed by %v", s.Load, s.Load.Text, behind)
	}
	result.Note(s.sides()[1], "has loaded what was there before, and is held up")
	return nil
}

func value(content []byte) uint64 {
	var all [8]byte
	copy(all[:], content)
	return binary.LittleEndian.Uint64(all[:])
}

// goesOn lets the second side go on, and says whether it is held up at the step.
func (r *Runner) goesOn(to Step) bool {
	if !r.trap.GoOn(to.Point, to.Nth-1) {
		return false
	}
	for began := time.Now(); !r.trap.Holding() && !r.victim.Idle() && time.Since(began) < since; {
		cpu.Nap()
	}
	return r.trap.Holding()
}
