package inject

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"golang.org/x/sys/unix"
)

// Which CPU is whose. The controller is the thread that calls Run.
const (
	controllerCPU = iota
	victimCPU
	operatorCPU
)

const (
	// hold is how long a CPU is held up at most, and as much again as
	// perPacket for each packet that fits into the ring. Opponents are done in
	// a fraction of it unless they wait for the one that is held up.
	hold      = 200 * time.Millisecond
	perPacket = time.Millisecond
	// blocked is for how long an opponent sleeps that is believed to wait for
	// the one that is held up.
	blocked = 2 * time.Millisecond
	// quick opponents are done before it is worth to look what they do.
	quick = 500 * time.Microsecond
	// Suspicion is for how long nothing may move before a schedule is
	// suspected to have stalled the queue, and Patience before it is believed.
	Suspicion = 50 * time.Millisecond
	Patience  = time.Second
)

// Runner runs schedules on one stage after the other.
type Runner struct {
	pauser   *Pauser
	trap     *Trap
	victim   *thread
	second   *Trap   // the controller's, for pairs
	operator *thread // for opponents that may have to wait
	waiting  *Trap   // the operator's, which holds nobody up but tells when it waits
	starter  *thread // starts vhost-net's worker, and sleeps until it is done
	stage    *Stage
	// Begins is called with the id of each schedule or pair that is about to be
	// run; nil is nobody.
	Begins func(id string)
	// waits are opponents that are believed not to wait, and did.
	waits map[waiter]bool
}

// waiter is an opponent of a CPU that is held up at an instruction.
type waiter struct {
	opponent string
	at       Point
}

// NewRunner starts the threads, on CPUs of their own.
func NewRunner() (_ *Runner, err error) {
	r := &Runner{waits: make(map[waiter]bool)}
	if runtime.NumCPU() <= operatorCPU {
		return nil, &kernelfeature.MissingError{
			Option: "a third CPU (CPUS=3)", What: "CPU each for a controller, the one that is held up, and one that may have to wait for it",
			Err: fmt.Errorf("there are %d", runtime.NumCPU()),
		}
	}
	if r.pauser, err = NewPauser(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.trap, err = r.pauser.Trap(victimCPU); err != nil {
		return nil, err
	}
	if r.second, err = r.pauser.Trap(controllerCPU); err != nil {
		return nil, err
	}
	if r.waiting, err = r.pauser.Trap(operatorCPU); err != nil {
		return nil, err
	}
	if err = errors.Join(r.second.WatchLocks(), r.waiting.WatchLocks()); err != nil {
		return nil, err
	}
	if err = keepOff(victimCPU); err != nil {
		return nil, err
	}
	if r.victim, err = startThread(victimCPU); err != nil {
		return nil, err
	}
	if r.operator, err = startThread(operatorCPU); err != nil {
		return nil, err
	}
	if r.starter, err = startThread(operatorCPU); err != nil {
		return nil, err
	}
	return r, nil
}

// Close ends the threads and removes the device, as far as there are any.
func (r *Runner) Close() error {
	var errs []error
	for _, trap := range []*Trap{r.trap, r.second, r.waiting} {
		if trap != nil {
			errs = append(errs, trap.Close())
		}
	}
	for _, thread := range []*thread{r.victim, r.operator, r.starter} {
		if thread != nil {
			thread.stop()
		}
	}
	return errors.Join(append(errs, keepOff(-1), r.closeStage(), r.pauser.Close())...)
}

func (r *Runner) closeStage() error {
	if r.stage == nil {
		return nil
	}
	s := r.stage
	r.stage = nil
	return s.Close()
}

// on makes sure that there is the stage of the setting.
func (r *Runner) on(want Setting) error {
	if s := r.stage; s != nil && s.Ring == want.Ring && s.Qdisc == want.Qdisc && s.Trim == want.Trim && s.Backpressure == want.Backpressure && (s.card != nil) == want.Vhost {
		return nil
	}
	if err := r.closeStage(); err != nil {
		return err
	}
	s, err := NewStage(want)
	if err != nil {
		return err
	}
	r.stage = s
	return nil
}

// Pin makes the calling goroutine the controller, for as long as it lives: Run
// must be called from it.
func (r *Runner) Pin() error {
	runtime.LockOSThread()
	return pin(controllerCPU)
}

// Run runs the schedule once, and leaves the stage as it found it. For so long
// nothing may move before the queue is said to be stalled: Suspicion or
// Patience.
func (r *Runner) Run(s Schedule, patience time.Duration) (*Result, error) {
	if r.Begins != nil {
		r.Begins(s.String())
	}
	result, err := r.run(s, patience)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("schedule %v: %w", s, err), r.closeStage())
	}
	return result, r.tidy(result)
}

// Audit compares the counters of the device and its qdisc with what was freed in
// all schedules on the stage: to do that after each would take longer than most
// of them. The error says what does not agree, and the paths are those of which it
// is not known which counter counts them.
func (r *Runner) Audit() (contract.Paths, error) {
	if r.stage == nil {
		return nil, nil
	}
	unknown, err := r.stage.audit()
	if err != nil {
		err = errors.Join(err, r.closeStage())
	}
	return unknown, err
}

// tidy sees to it that what a broken queue still holds is in nobody's way.
func (r *Runner) tidy(result *Result) error {
	if (result.Stalled != "" || result.Unbalanced != nil) && !r.stage.revive() {
		return r.closeStage()
	}
	return nil
}

func (r *Runner) run(s Schedule, patience time.Duration) (*Result, error) {
	if err := r.on(s.Setting); err != nil {
		return nil, err
	}
	stage := r.stage
	if s.Opponent.Control {
		stage.ledger.Reconfigured()
	}
	before, odd := stage.account(), stage.receiver.Odd()
	var requeues uint64
	var err error
	if s.Trim > 0 {
		// It costs too much for schedules that do not care.
		if requeues, err = stage.requeues(); err != nil {
			return nil, err
		}
	}
	if s.Opponent.prepare != nil {
		if err := s.Opponent.prepare(stage); err != nil {
			return nil, err
		}
	}
	var victim func() error
	if s.Opponent.Producer {
		room := stage.ring.room()
		if err := stage.fill(room); err != nil {
			return nil, err
		}
		if _, err := stage.drain(max(room-s.Left, 0)); err != nil {
			return nil, err
		}
		victim = func() error { _, err := stage.read(); return err }
		if s.Vhost {
			if victim, err = stage.readyCard(victimCPU); err != nil {
				return nil, err
			}
		}
	} else {
		if s.Vhost {
			if err := errors.Join(stage.card.Pin(operatorCPU), stage.plugIn()); err != nil {
				return nil, err
			}
		}
		if err := stage.fill(stage.ring.room() - 1); err != nil {
			return nil, err
		}
		if s.Woken {
			if err := errors.Join(stage.fill(1), stage.resize()); err != nil {
				return nil, err
			}
		}
		victim = func() error { _, err := stage.victim.Send(); return err }
	}
	result := newResult()
	if err := r.hold(s, victim, result); err != nil {
		return nil, err
	}
	if s.Opponent.follow != nil {
		if err := s.Opponent.follow(stage); err != nil {
			return nil, err
		}
	}
	if s.Qdisc == netdev.Noqueue {
		// Nothing but one packet more, before anything is read, tells that the
		// queue was stopped: it belongs into the ring, or was dropped for it.
		if err := stage.fill(1); err != nil {
			return nil, err
		}
	}
	stage.plugged = s.Vhost
	if s.Opponent.Control {
		if err := stage.dev.AwaitCarrier(); err != nil {
			return nil, err
		}
	}
	if err := stage.judge(before, result, patience); err != nil {
		return nil, err
	}
	if s.Trim > 0 {
		now, err := stage.requeues()
		if err != nil {
			return nil, err
		}
		result.Requeued = now - requeues
		result.Odd = stage.receiver.Odd()
		for length, n := range odd {
			if result.Odd[length] -= n; result.Odd[length] == 0 {
				delete(result.Odd, length)
			}
		}
	}
	if s.Vhost {
		if err := stage.unplug(); err != nil {
			return nil, err
		}
	}
	if s.Opponent.undo != nil {
		if err := s.Opponent.undo(stage); err != nil {
			return nil, err
		}
	}
	if s.Opponent.Control && result.Reached && result.Stalled == "" {
		if _, err := stage.drain(all); err != nil {
			return nil, err
		}
		if _, err := stage.freed(); err != nil {
			return nil, err
		}
		return result, stage.realign()
	}
	return result, nil
}

// hold has the victim's thread do what it does, holds it up at the point, and
// lets the opponent act.
func (r *Runner) hold(s Schedule, do func() error, result *Result) error {
	v := side{thread: r.victim, trap: r.trap, do: do, limit: limit(s.Ring)}
	if s.blocks() {
		if err := r.stage.block(true); err != nil {
			return err
		}
		v.wake = func() error { return r.stage.fill(1) }
	}
	if s.Vhost && s.Opponent.Producer {
		// The worker has the CPU of the victim for itself.
		v.thread, v.vhost = r.starter, true
	}
	if err := v.set(s.Point); err != nil {
		return err
	}
	who, does := producer, "sends the packet that is to fill the ring"
	if s.Opponent.Producer {
		who, does = consumer, "reads"
	}
	result.note(who, does)
	var acted error
	held, begun := v.begin()
	if held {
		result.Reached = true
		result.note(who, "is held up")
		acted = r.act(s, result)
		result.note(who, "goes on")
	}
	var woken error
	if s.blocks() {
		woken = r.awake(&v, result)
	}
	v.wait()
	r.trap.Disarm()
	r.operator.wait()
	result.note(who, "is done")
	return errors.Join(v.err, begun, acted, woken)
}

// awake returns when a consumer that sleeps while there is nothing to read has
// read a packet. If there are packets and it sleeps for all that, they are all
// that could wake it, so it is lost, and is told to give up.
func (r *Runner) awake(v *side, result *Result) error {
	if !v.sleeps() {
		return r.stage.block(false)
	}
	if !poll(r.stage.dev.Queues()[r.stage.queue], 0) {
		if err := v.wake(); err != nil {
			return err
		}
	}
	for began := time.Now(); !v.thread.idle(); nap() {
		if time.Since(began) < Patience {
			continue
		}
		result.Stalled = fmt.Sprintf("the consumer sleeps, although there was a packet for it %v ago", Patience)
		break
	}
	if err := r.stage.block(false); err != nil {
		return err
	}
	if !v.thread.idle() {
		// Go's runtime does nothing about this signal, and the kernel begins
		// the read anew, which does not sleep now.
		return unix.Tgkill(unix.Getpid(), v.thread.tid, unix.SIGURG)
	}
	return nil
}

// act lets the opponent act, and the one that is held up go on then. An opponent
// that took so long that this one went on by itself is taken to wait for it: the
// next time it acts on a thread of its own, as those do that are known to wait.
func (r *Runner) act(s Schedule, result *Result) error {
	o, as := s.Opponent, waiter{s.Opponent.Name, s.Point}
	result.note(other, o.Does)
	if !o.Waits && !r.waits[as] {
		err := o.act(r.stage)
		result.note(other, "is done")
		result.Late = !r.trap.Release()
		if r.trap.Expired() {
			r.waits[as] = true
		}
		return err
	}
	var err error
	r.waiting.Arm(0, r.trap)
	r.operator.start(func() {
		err = o.act(r.stage)
		r.waiting.Disarm()
	})
	done := r.acted(limit(s.Ring) / 2)
	freed := r.waiting.Waits()
	if result.Waited = !done || freed; result.Waited {
		result.note(other, "has to wait for the one that is held up")
	} else {
		result.note(other, "is done")
	}
	result.Late = !r.trap.Release() && !freed
	for o.Control && !r.operator.idle() {
		// It sleeps until all CPUs have passed a quiescent state (net/core/dev.c:
		// synchronize_net). Without KVM, one that spins here keeps them from that.
		nap()
	}
	r.operator.wait()
	return err
}

// acted returns true when the operator's thread is done, and false when it
// cannot get further before the one that is held up goes on: it sleeps, spins for
// a lock, or, where that cannot be told, takes as long as spins.
func (r *Runner) acted(spins time.Duration) bool {
	await(func() bool { return r.operator.begun.Load() == r.operator.asked.Load() })
	began := time.Now()
	await(func() bool { return r.operator.idle() || r.waiting.Waits() || time.Since(began) > quick })
	awake := began
	for !r.operator.idle() {
		if r.waiting.Waits() {
			return false
		}
		nap()
		if !r.operator.sleeps() {
			awake = time.Now()
		}
		if time.Since(awake) > blocked || time.Since(began) > spins {
			return r.operator.idle()
		}
	}
	return true
}

// limit is how long a CPU is held up at most, with a ring of that size.
func limit(ring int) time.Duration { return hold + time.Duration(ring)*perPacket }

// revive brings a stalled stage back to an empty ring and qdisc, and says
// whether it moves again: that takes less time than to make another.
func (s *Stage) revive() bool {
	s.ledger.Reconfigured()
	if s.dev.SetUp(false) != nil || s.dev.SetUp(true) != nil || s.dev.SetTxQueueLen(s.Ring) != nil || s.dev.SetQdisc(netdev.Qdisc{Kind: s.Qdisc}) != nil {
		return false
	}
	if _, err := s.drain(all); err != nil {
		return false
	}
	if s.realign() != nil || s.fill(1) != nil || !s.readable(Suspicion) {
		return false
	}
	n, err := s.drain(all)
	if err != nil || n != 1 {
		return false
	}
	_, err = s.freed()
	return err == nil
}

// nap leaves the CPU to others for a moment; Go's own sleep takes ten times as
// long without KVM.
func nap() { unix.Nanosleep(&unix.Timespec{Nsec: 100_000}, nil) }
