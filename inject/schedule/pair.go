package schedule

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/cpu"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
)

// Pair is an interleaving with both sides held up. The first side acts until it is held
// up, then the second until it is held up. The first goes on to its end, and then the
// second. (If the second ended before the first, holding it up would make no
// difference: that is a Schedule.)
//
// The producer is held up in sending the packet that fills the ring. It sends two more:
// one takes the slot that the consumer may have freed, and the other must then wait in
// the qdisc. The consumer reads all packets.
type Pair struct {
	First, Second disasm.Point
	// ConsumerFirst: the first is the consumer. Else the producer is.
	ConsumerFirst bool
	driver.Setup
}

// Setting is where the pair is tried.
func (p Pair) Setting() stage.Setting { return stage.Setting{Setup: p.Setup, Left: 1} }

// more is how many packets the producer of a pair sends after that in which it
// is held up.
const more = 2

// spun is how long the second of a pair is held up at most. It waits for the
// first to end, which cannot if it needs a lock that the second holds.
const spun = 20 * time.Millisecond

// String is the pair's id: "tun_net_xmit+0x1cb&tun_do_read+0x52/ring=2/fq_codel",
// with the setting's suffix.
func (p Pair) String() string {
	return fmt.Sprintf("%v&%v/ring=%d/%s%s", p.First, p.Second, p.Ring, p.Qdisc, p.Setting().Suffix())
}

// ParsePair returns the pair of that id, of a driver's device; the instructions
// must be the running kernel's.
func ParsePair(drv *driver.Driver, id string) (Pair, error) {
	var p Pair
	m := pairID.FindStringSubmatch(id)
	if m == nil {
		return p, fmt.Errorf("%q is no pair of held-up instructions: one looks like tun_net_xmit+0x1cb&tun_do_read+0x52/ring=2/fq_codel", id)
	}
	at, left, err := parseSetting(drv, m[3:])
	if err == nil && (left || at.Woken || at.Trim > 0) {
		err = errors.New("a pair has no left=, woken or trim=")
	}
	var errs [2]error
	p.Setup = at.Setup
	p.First, errs[0] = disasm.At(m[1])
	p.Second, errs[1] = disasm.At(m[2])
	if err := errors.Join(err, errs[0], errs[1]); err != nil {
		return p, fmt.Errorf("schedule %s: %w", id, err)
	}
	for _, target := range drv.Targets {
		if target.Consumer != p.Consumer {
			continue
		}
		functions, err := Functions(target)
		if err != nil {
			return p, fmt.Errorf("schedule %s: %w", id, err)
		}
		for _, f := range functions {
			p.ConsumerFirst = p.ConsumerFirst || target.Consumes && slices.Contains(f.Points, p.First)
		}
	}
	return p, nil
}

// RunPair runs a pair once, as Run runs a schedule. It is reached if both were
// held up at once.
func (r *Runner) RunPair(p Pair, patience time.Duration) (*stage.Result, error) {
	if r.Begins != nil {
		r.Begins(p.String())
	}
	result, err := r.pair(p, patience)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("schedule %v: %w", p, err), r.closeStage())
	}
	return result, r.tidy(result)
}

func (r *Runner) pair(p Pair, patience time.Duration) (*stage.Result, error) {
	if err := r.on(p.Setting()); err != nil {
		return nil, err
	}
	s := r.stage
	works := p.Consumer != ""
	before := s.Begin()
	if works {
		if err := s.Halt(); err != nil {
			return nil, err
		}
	}
	if err := s.Fill(s.Room() - 1); err != nil {
		return nil, err
	}
	send := func() error {
		for range 1 + more {
			if _, err := s.Victim.Send(); err != nil {
				return err
			}
		}
		return nil
	}
	read := func() error { _, err := s.Drain(driver.All); return err }
	firstThread := r.victim
	if works {
		// The worker runs on the CPU of its side, alone.
		on := controllerCPU
		if p.ConsumerFirst {
			on = victimCPU
			if !s.Inline() {
				firstThread = r.starter
			}
		}
		var err error
		if read, err = s.Ready(on); err != nil {
			return nil, err
		}
	}
	first, second := send, read
	who := [2]string{contract.Producer, contract.Consumer}
	if p.ConsumerFirst {
		first, second = read, send
		who = [2]string{contract.Consumer, contract.Producer}
	}
	result := stage.NewResult()
	// The second is this thread: three CPUs that spin are one too many for
	// two of a host without KVM.
	if err := r.second.Set(p.Second); err != nil {
		return nil, err
	}
	v := side{thread: firstThread, trap: r.trap, worker: firstThread == r.starter, limit: limit(p.Ring), do: func() error {
		err := first()
		r.second.Release()
		return err
	}}
	result.Note(who[0], "begins")
	held, err := v.begin(p.First)
	if held {
		result.Note(who[0], "is held up")
		result.Note(who[1], "begins, and is held up until the other is done")
		r.second.Arm(spun, r.trap)
		err = second()
		result.Note(who[1], "is done")
		// If the first needs a lock that the second holds, it cannot end
		// before the second goes on. That order is valid, too.
		result.Waited = r.second.Expired()
		exhausted := r.second.Exhausted()
		result.Locked = r.second.Waits()
		result.Reached = r.second.Disarm() && !result.Locked
		result.Late = r.trap.Expired() || r.trap.Exhausted() || exhausted
		r.trap.Release()
	}
	v.wait()
	r.trap.Disarm()
	if err := errors.Join(v.err, err); err != nil {
		return nil, err
	}
	s.Plug(works && (held || p.ConsumerFirst))
	if err := s.Finish(before, result, patience); err != nil || !works {
		return result, err
	}
	return result, s.Unplug()
}

// side is one that is held up, on a thread of its own.
type side struct {
	thread *cpu.Thread
	trap   *breakpoint.Trap
	do     func() error
	limit  time.Duration // for which it is held up at most
	// worker: it is a worker that is held up, and thread only starts it. No CPU is
	// to spin for both: see stage.Stage.Drain.
	worker bool
	// wake is what wakes it if it sleeps before it is held up; nil if it never
	// does.
	wake  func() error
	err   error
	armed atomic.Bool
}

// begin lets the side do what it does, and says whether it is held up at the point. It
// moves the trap itself, on its own CPU: two calls of a thread take twice as long as one.
func (s *side) begin(at disasm.Point) (bool, error) {
	s.thread.Start(func() {
		if s.err = s.trap.Set(at); s.err != nil {
			return
		}
		s.trap.Arm(s.limit, nil)
		s.armed.Store(true)
		s.err = s.do()
	})
	if s.wake != nil && s.sleeps() {
		if err := s.wake(); err != nil {
			return false, err
		}
	}
	s.await(func() bool { return s.caught() || s.thread.Idle() })
	return s.caught(), nil
}

func (s *side) caught() bool { return s.armed.Load() && s.trap.Caught() }

// await returns when the condition holds.
func (s *side) await(cond func() bool) {
	for s.worker && !cond() {
		cpu.Nap()
	}
	cpu.Await(cond)
}

// wait returns when the side is done.
func (s *side) wait() { s.await(s.thread.Idle) }

// sleeps returns true when the side sleeps, and false when it is held up or done.
func (s *side) sleeps() bool {
	for !s.trap.Holding() && !s.thread.Idle() {
		if s.armed.Load() && s.thread.Sleeps() {
			return true
		}
		cpu.Nap()
	}
	return false
}
