package schedule

import (
	"errors"
	"fmt"
	"time"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/cpu"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/guest/driver"
)

const (
	// aside is how long the second side is given at least to execute its store and its
	// load while the first is held up. It may need a lock that the first holds. If it
	// takes long without that, on a busy machine, it is given timesAlone as long, and
	// mostAside at most.
	aside      = 50 * time.Millisecond
	timesAlone = 4
	mostAside  = time.Second / 2
	// since is how long the first is given to go on to its end. It may need a lock
	// that the second holds.
	since = time.Second
	// delayed is how long either is held up at most, if nobody releases it. Neither
	// must go on by itself: memory may hold what the store has overwritten.
	delayed = 10 * time.Second
)

// meanwhile is what the second of two sides does while the first is held up.
type meanwhile struct {
	// places are recorded, from when the first of them is executed for the nth time
	// on, or all the time if after is 0.
	places []breakpoint.Place
	after  int
	// The second is held up in turn at trap, when it comes there after that, or at any
	// time, and has come by so many times more; then act is called, which lets the first
	// go on. With none the second acts to its end.
	trap    disasm.Point
	anyTime bool
	passes  int
	act     func(result *stage.Result, goOn func()) error
	// then is where act may let the second go on to.
	then []disasm.Point
	// holds says where the second is held up at trap, for time lines.
	holds string
}

// overlap lets the first side act until it is held up, and the second meanwhile. With
// no First the first acts to its end before.
func (r *Runner) overlap(s Store, m meanwhile, patience time.Duration) (*stage.Result, error) {
	result, err := r.overlapped(s, m, patience)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("schedule %v: %w", s, err), r.closeStage())
	}
	return result, r.tidy(result)
}

func (r *Runner) overlapped(s Store, m meanwhile, patience time.Duration) (*stage.Result, error) {
	if err := r.stores(); err != nil {
		return nil, err
	}
	if err := r.on(s.Setting()); err != nil {
		return nil, err
	}
	on, works := r.stage, s.Consumer != ""
	// No window holds but for the way on which it was followed.
	if err := on.Align(controllerCPU); err != nil {
		return nil, err
	}
	before := on.Begin()
	if works {
		if err := on.Halt(); err != nil {
			return nil, err
		}
	}
	if err := on.Fill(on.Room() - 1); err != nil {
		return nil, err
	}
	consumes, consumed := r.read, false
	if works {
		// The worker runs on the CPU of its side. Whoever starts it there sleeps until
		// it is done.
		side := victimCPU
		if s.ConsumerFirst {
			side = operatorCPU
		}
		var err error
		if consumes, err = on.Ready(side); err != nil {
			return nil, err
		}
	}
	first, second := r.send, func() error { consumed = true; return consumes() }
	if s.ConsumerFirst {
		first, second = second, first
	}
	result, err := r.interleave(s, first, second, m)
	if err != nil {
		return nil, err
	}
	on.Plug(works && consumed)
	if err := on.Finish(before, result, patience); err != nil || !works {
		return result, err
	}
	return result, on.Unplug()
}

// interleave does that with what the two sides do, on any memory. With no First and a
// trap, the first begins only when it is to go on.
func (r *Runner) interleave(s Store, first, second func() error, m meanwhile) (*stage.Result, error) {
	who, result := s.sides(), stage.NewResult()
	held, traps := s.First != disasm.Point{}, m.trap != disasm.Point{}
	var errs [4]error
	r.victim.Call(func() {
		// There are only so many breakpoints: what is not needed goes first.
		if !traps {
			errs[0] = r.trap.Unset()
		} else if len(m.then) == 0 {
			errs[0] = r.trap.Also()
		}
		if errs[1] = r.recorder.Set(m.places); traps && errs[0] == nil && errs[1] == nil {
			errs[0] = errors.Join(r.trap.Set(m.trap), r.trap.Also(m.then...))
		}
	})
	if held {
		r.operator.Call(func() { errs[2] = r.waiting.Set(s.First) })
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	goOn := func() { r.waiting.Release() }
	begin := func() { r.operator.Start(func() { errs[2] = first() }) }
	result.Reached = true
	switch {
	case held:
		result.Note(who[0], "begins")
		r.waiting.Arm(delayed, nil)
		begin()
		await(func() bool { return r.operator.Idle() || r.waiting.Caught() })
		if result.Reached = r.waiting.Holding(); result.Reached {
			result.Note(who[0], "is held up")
		}
	case traps:
		goOn = begin
	default:
		begin()
		await(r.operator.Idle)
	}
	var acted error
	if result.Reached {
		result.Note(who[1], "begins")
		switch {
		case m.anyTime:
			r.trap.ArmAfter(m.passes, delayed)
		case traps:
			r.trap.Ready(delayed, m.passes)
		}
		r.recorder.Begin(0, m.after, traps && !m.anyTime)
		r.victim.Start(func() { errs[3] = second() })
		began := time.Now()
		given := min(max(aside, r.alone*timesAlone), mostAside)
		await(func() bool { return r.victim.Idle() || traps && r.trap.Holding() || held && time.Since(began) > given })
		if !held && !traps {
			r.alone = max(r.alone, time.Since(began))
		}
		if !m.anyTime {
			// A worker acts on when the first goes on, and that is no part of this.
			r.recorder.End()
		}
		result.Reached = !traps || r.trap.Holding()
	}
	if traps && result.Reached {
		result.Note(who[1], m.holds)
		acted = m.act(result, goOn)
		if r.trap.Expired() || r.trap.Exhausted() {
			// It has run on with memory that never was, and whatever the guest does
			// from here on says nothing of its kernel. So this program ends, and
			// what is left runs in another guest.
			panic(fmt.Sprintf("schedule %v: a CPU that was to be held up went on by itself after %v, with memory as it never was: the guest cannot be used any more", s, delayed))
		}
		r.trap.Release()
		result.Note(who[1], "goes on")
	}
	r.waiting.Release()
	await(func() bool {
		r.trap.Release() // it may have come there too late
		return r.victim.Idle()
	})
	await(r.operator.Idle)
	r.recorder.End()
	r.trap.Disarm()
	r.waiting.Disarm()
	return result, errors.Join(errs[2], errs[3], acted)
}

// send and read are what the two sides do.
func (r *Runner) send() error {
	for range 1 + more {
		if _, err := r.stage.Victim.Send(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runner) read() error { _, err := r.stage.Drain(driver.All); return err }

// await returns when the condition holds. It leaves its CPU to others meanwhile: two
// that spin are enough.
func await(cond func() bool) {
	for range 1 << 10 {
		if cond() {
			return
		}
	}
	for !cond() {
		cpu.Nap()
	}
}

// finishes lets the first side go on, and says whether it came to its end.
func (r *Runner) finishes(goOn func()) bool {
	goOn()
	for began := time.Now(); !r.operator.Idle() && time.Since(began) < since; {
		cpu.Nap()
	}
	return r.operator.Idle()
}
