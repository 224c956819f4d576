package schedule

import (
	"errors"
	"fmt"
	"time"

	"github.com/ringproof/ringproof/inject/cpu"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"golang.org/x/sys/unix"
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
)

// Run runs the schedule once, and leaves the stage as it found it. For so long
// nothing may move before the queue is said to be stalled: Suspicion or
// Patience.
func (r *Runner) Run(s Schedule, patience time.Duration) (*stage.Result, error) {
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
	unknown, err := r.stage.Audit()
	if err != nil {
		err = errors.Join(err, r.closeStage())
	}
	return unknown, err
}

// tidy sees to it that what a broken queue still holds is in nobody's way.
func (r *Runner) tidy(result *stage.Result) error {
	if (result.Stalled != "" || result.Unbalanced != nil) && !r.stage.Revive() {
		return r.closeStage()
	}
	return nil
}

func (r *Runner) run(s Schedule, patience time.Duration) (*stage.Result, error) {
	if err := r.on(s.Setting); err != nil {
		return nil, err
	}
	on, o := r.stage, s.Opponent
	if o.Control {
		on.Reconfigured()
	}
	var look func(moving bool) *contract.Queue
	if r.Watch && !o.Control && !s.works() {
		look, r.Unwatched = on.Watch()
	}
	before := on.Begin()
	var requeues uint64
	var err error
	if s.Trim > 0 {
		// It costs too much for schedules that do not care.
		if requeues, err = on.Requeues(); err != nil {
			return nil, err
		}
	}
	if o.Prepare != nil {
		if err := o.Prepare(on); err != nil {
			return nil, err
		}
	}
	ready := r.readyProducer
	if o.Producer {
		ready = r.readyConsumer
	}
	victim, err := ready(s)
	if err != nil {
		return nil, err
	}
	result := stage.NewResult()
	result.Look = look
	if err := r.hold(s, victim, result); err != nil {
		return nil, err
	}
	if o.Follow != nil {
		if err := o.Follow(on); err != nil {
			return nil, err
		}
	}
	if s.Qdisc == netdev.Noqueue {
		// Nothing but one packet more, before anything is read, tells that the
		// queue was stopped: it belongs into the ring, or was dropped for it.
		if err := on.Fill(1); err != nil {
			return nil, err
		}
	}
	on.Plug(s.works())
	if o.Control {
		if err := on.Device().Link().AwaitCarrier(); err != nil {
			return nil, err
		}
	}
	if err := on.Finish(before, result, patience); err != nil {
		return nil, err
	}
	if s.Trim > 0 {
		now, err := on.Requeues()
		if err != nil {
			return nil, err
		}
		result.Requeued = now - requeues
	}
	return result, r.leave(s, result)
}

// readyProducer fills the ring to one short of full, or full if its txq is woken
// for all that, and returns what the victim does.
func (r *Runner) readyProducer(s Schedule) (func() error, error) {
	on := r.stage
	if s.works() {
		if err := on.PlugIn(r.workerCPU); err != nil {
			return nil, err
		}
	}
	if err := on.Fill(on.Room() - 1); err != nil {
		return nil, err
	}
	if s.Woken {
		if err := errors.Join(on.Fill(1), on.Resize()); err != nil {
			return nil, err
		}
	}
	return func() error { _, err := on.Victim.Send(); return err }, nil
}

// readyConsumer fills the ring, has it read down to what is to be left, and returns
// what the victim does.
func (r *Runner) readyConsumer(s Schedule) (func() error, error) {
	on := r.stage
	if s.works() {
		if err := on.Halt(); err != nil {
			return nil, err
		}
	}
	room := on.Room()
	switch {
	case !r.driver.Whole:
		if err := on.Fill(room); err != nil {
			return nil, err
		}
		if _, err := on.Drain(max(room-s.Left, 0)); err != nil {
			return nil, err
		}
	case s.Left == s.Ring:
		if err := on.Fill(room); err != nil {
			return nil, err
		}
	default:
		if err := on.Fill(s.Left); err != nil {
			return nil, err
		}
	}
	if s.works() {
		return on.Ready(victimCPU)
	}
	return func() error { _, err := on.Read(); return err }, nil
}

// leave leaves the stage as the schedule found it.
func (r *Runner) leave(s Schedule, result *stage.Result) error {
	on, o := r.stage, s.Opponent
	if s.works() {
		if err := on.Unplug(); err != nil {
			return err
		}
	}
	if o.Undo != nil {
		if err := o.Undo(on); err != nil {
			return err
		}
	}
	if !o.Control || !result.Reached || result.Stalled != "" {
		return nil
	}
	if _, err := on.Drain(driver.All); err != nil {
		return err
	}
	if err := on.Forget(); err != nil {
		return err
	}
	return on.Realign()
}

// hold has the victim's thread do what it does, holds it up at the point, and
// lets the opponent act.
func (r *Runner) hold(s Schedule, do func() error, result *stage.Result) error {
	v := side{thread: r.victim, trap: r.trap, do: do, limit: limit(s.Ring)}
	if s.blocks() {
		if err := r.stage.Device().Block(true); err != nil {
			return err
		}
		v.wake = func() error { return r.stage.Fill(1) }
	}
	if s.works() && s.Opponent.Producer && !r.stage.Inline() {
		// The worker has the CPU of the victim for itself.
		v.thread, v.worker = r.starter, true
	}
	who, does := contract.Producer, "sends the packet that is to fill the ring"
	if s.Opponent.Producer {
		who, does = contract.Consumer, "reads"
	}
	result.Note(who, does)
	var acted error
	result.Moving = true
	held, begun := v.begin(s.Point)
	if held {
		result.Reached = true
		result.Note(who, "is held up")
		acted = r.act(s, result)
		result.NoteRelease(who)
	}
	var woken error
	if s.blocks() {
		woken = r.awake(&v, result)
	}
	v.wait()
	r.trap.Disarm()
	r.operator.Wait()
	result.Moving = false
	result.Note(who, "is done")
	return errors.Join(v.err, begun, acted, woken)
}

// awake returns when a consumer that sleeps while there is nothing to read has
// read a packet. If there are packets and it sleeps for all that, they are all
// that could wake it, so it is lost, and is told to give up.
func (r *Runner) awake(v *side, result *stage.Result) error {
	if !v.sleeps() {
		return r.stage.Device().Block(false)
	}
	if !r.stage.Readable(0) {
		if err := v.wake(); err != nil {
			return err
		}
	}
	for began := time.Now(); !v.thread.Idle(); cpu.Nap() {
		if time.Since(began) < stage.Patience {
			continue
		}
		result.Stalled = fmt.Sprintf("the consumer sleeps, although there was a packet for it %v ago", stage.Patience)
		break
	}
	if err := r.stage.Device().Block(false); err != nil {
		return err
	}
	if !v.thread.Idle() {
		// Go's runtime does nothing about this signal, and the kernel begins
		// the read anew, which does not sleep now.
		return unix.Tgkill(unix.Getpid(), v.thread.ID(), unix.SIGURG)
	}
	return nil
}

// act lets the opponent act, and the one that is held up go on then. An opponent
// that took so long that this one went on by itself is taken to wait for it: the
// next time it acts on a thread of its own, as those do that are known to wait.
func (r *Runner) act(s Schedule, result *stage.Result) error {
	o, as := s.Opponent, waiter{s.Opponent.Name, s.Point}
	note := func(what string) {
		if o.Who != "" {
			result.Note(o.Who, what)
		}
	}
	note(o.Does)
	if !o.Waits && !r.waits[as] {
		err := o.Act(r.stage)
		note("is done")
		result.Late = !r.trap.Release()
		if r.trap.Expired() {
			r.waits[as] = true
		}
		return err
	}
	var err error
	r.waiting.Arm(0, r.trap)
	r.operator.Start(func() {
		err = o.Act(r.stage)
		r.waiting.Disarm()
	})
	done := r.acted(limit(s.Ring) / 2)
	freed := r.waiting.Waits()
	if result.Waited = !done || freed; result.Waited {
		note("has to wait for the one that is held up")
	} else {
		note("is done")
	}
	result.Late = !r.trap.Release() && !freed
	for o.Control && !r.operator.Idle() {
		// It sleeps until all CPUs have passed a quiescent state (net/core/dev.c:
		// synchronize_net). Without KVM, one that spins here keeps them from that.
		cpu.Nap()
	}
	r.operator.Wait()
	return err
}

// acted returns true when the operator's thread is done, and false when it
// cannot get further before the one that is held up goes on: it sleeps, spins for
// a lock, or, where that cannot be told, takes as long as spins.
func (r *Runner) acted(spins time.Duration) bool {
	cpu.Await(r.operator.Begun)
	began := time.Now()
	cpu.Await(func() bool { return r.operator.Idle() || r.waiting.Waits() || time.Since(began) > quick })
	awake := began
	for !r.operator.Idle() {
		if r.waiting.Waits() {
			return false
		}
		cpu.Nap()
		if !r.operator.Sleeps() {
			awake = time.Now()
		}
		if time.Since(awake) > blocked || time.Since(began) > spins {
			return r.operator.Idle()
		}
	}
	return true
}

// limit is how long a CPU is held up at most, with a ring of that size.
func limit(ring int) time.Duration { return hold + time.Duration(ring)*perPacket }
