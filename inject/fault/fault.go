// Package fault injects one fault after the other into a device, and then checks
// whether the device still works.
package fault

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ringproof/ringproof/inject/cpu"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/rcu"
	"golang.org/x/sys/unix"
)

// qdiscs are those that "replace the qdisc" numbers. Those that shape hold
// no packet for so long that it could be taken for a stall. A pfifo that is not
// told its limit takes what tx_queue_len is at that moment (net/sched/sch_fifo.c:
// fifo_init), and lets nothing pass if that is 0.
var qdiscs = []netdev.Qdisc{
	{Kind: netdev.FQCodel}, {Kind: netdev.PfifoFast}, {Kind: netdev.Pfifo, Limit: 1000}, {Kind: netdev.FQ}, {Kind: netdev.MQ}, {Kind: netdev.Noqueue},
	{Kind: netdev.TBF, Rate: 1 << 20, Burst: 2000, Limit: 64 << 10},
	{Kind: netdev.Netem, Delay: 2 * time.Millisecond},
}

// takeTheLinkUp undoes the fault that takes it down.
var takeTheLinkUp = &driver.Fault{Name: "take the link up", Do: func(b driver.Bench, _ int) error { return b.Device().Link().SetUp(true) }}

// Faults returns all that can happen to a driver's device with that consumer: what can
// happen to any, and what only the driver's can. A new one needs nothing but its
// entry. What draws faults at random may draw the first ones more often, so those that
// make traffic come first, then the driver's.
func Faults(drv *driver.Driver, consumer driver.Consumer) []*driver.Fault {
	of := func(b driver.Bench) *Sequence { return b.(*Sequence) }
	all := []*driver.Fault{
		{Name: "fill the ring", Do: func(b driver.Bench, _ int) error {
			packets := b.Device().Slots() + 1
			if w := b.Device().Worker(); w != nil && w.Inline() {
				packets += w.Hand()
			}
			return of(b).send(packets)
		}},
		{Name: "send", Arguments: []int{1, 2, 3, 20}, Do: func(b driver.Bench, n int) error { return of(b).send(n) }},
		{Name: "send past the qdisc", Arguments: []int{1, 3}, Do: func(b driver.Bench, n int) error {
			of(b).Offer(n, true)
			return nil
		}},
		{Name: "read", Arguments: []int{1, 2, 100}, Do: func(b driver.Bench, n int) error {
			_, err := b.Drain(n)
			return err
		}},
	}
	all = append(all, drv.Faults(consumer)...)
	all = append(all, []*driver.Fault{
		{Name: "replace the qdisc", Arguments: []int{0, 1, 2, 3, 4, 5, 6, 7}, Says: func(n int) string {
			return fmt.Sprintf("replace the qdisc by %v", qdiscs[n])
		}, Do: func(b driver.Bench, n int) error { return of(b).replaceQdisc(qdiscs[n]) }},
		{Name: "take the link down", Do: func(b driver.Bench, _ int) error { return b.Device().Link().SetUp(false) }},
		takeTheLinkUp,
		{Name: "rename the device", Do: func(b driver.Bench, _ int) error { return of(b).rename() }},
		{Name: "move the device to another network namespace and back", Do: func(b driver.Bench, _ int) error { return of(b).moveThroughNamespace() }},
		{Name: "replace the qdisc by fq_codel, with an allocation that fails: the", Failing: true, Do: func(b driver.Bench, _ int) error {
			return of(b).replaceQdisc(netdev.Qdisc{Kind: netdev.FQCodel})
		}},
		{Name: "take a CPU offline and online", Do: func(driver.Bench, int) error { return cycleCPU() }},
	}...)
	for _, f := range all {
		if f.Failing {
			f.Arguments = allocations
		}
	}
	return all
}

// Sequence is a device to which one fault after the other happens.
type Sequence struct {
	*stage.Stage
	setup  driver.Setup
	before stage.Mark
	steps  []string
}

// NewSequence makes a device of that driver, with a ring of two slots under
// fq_codel.
func NewSequence(drv *driver.Driver, backpressure bool, consumer driver.Consumer) (*Sequence, error) {
	setup := driver.Setup{Ring: 2, Qdisc: netdev.FQCodel, Backpressure: backpressure, Consumer: consumer}
	s, err := stage.New(drv, stage.Setting{Setup: setup})
	if err != nil {
		return nil, err
	}
	q := &Sequence{Stage: s, setup: setup}
	if err := s.Device().Restart(s); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	q.before = s.Begin()
	return q, nil
}

// Inject lets one fault happen; n is its number, if it has one.
func (q *Sequence) Inject(f *driver.Fault, n int) error {
	step := f.Name
	switch {
	case f.Says != nil:
		step = f.Says(n)
	case f.Failing:
		step = fmt.Sprintf("%s %d.", f.Name, n)
	case len(f.Arguments) > 0:
		step = fmt.Sprintf("%s %d", f.Name, n)
	}
	q.steps = append(q.steps, step)
	do := func() error { return f.Do(q, n) }
	if f.Failing {
		do = func() error { return q.failing(n, func() error { return f.Do(q, n) }) }
	}
	err := q.again(do)
	if refused := (*driver.RefusedError)(nil); errors.As(err, &refused) {
		q.note(" (refused: " + refused.Why + ")")
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}

// note adds to the step that is being made.
func (q *Sequence) note(text string) { q.steps[len(q.steps)-1] += text }

// Script is what has happened so far, a line each.
func (q *Sequence) Script() string {
	var b strings.Builder
	for i, step := range q.steps {
		fmt.Fprintf(&b, "%d. %s\n", i+1, step)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// send sends through the qdisc. A device that is down refuses, which is counted
// and no error.
func (q *Sequence) send(packets int) error {
	q.Offer(packets, false)
	return nil
}

func (q *Sequence) replaceQdisc(by netdev.Qdisc) error {
	if by.Kind == netdev.Noqueue {
		if err := q.mayBeStopped(); err != nil {
			return err
		}
		q.note(", after all is read")
		if err := q.empty(); err != nil {
			return err
		}
	}
	err := q.SetQdisc(by)
	if errors.Is(err, unix.EINVAL) && q.Device().Slots() == 0 {
		// net/sched/sch_generic.c: pfifo_fast_init wants a tx_queue_len.
		return &driver.RefusedError{Why: "no tx_queue_len"}
	}
	return err
}

// mayBeStopped refuses to leave a device without a qdisc whose txq nobody would start:
// the core complains of every packet then, whatever the driver.
func (q *Sequence) mayBeStopped() error {
	if q.Device().HeldUp() {
		return &driver.RefusedError{Why: "the consumer is held up, and the txq may be stopped"}
	}
	return nil
}

// empty reads until the qdisc holds nothing. A driver is not told that its qdisc
// is gone, so that a txq which is stopped stays so until the consumer has woken
// it, and until then the core complains of every packet, whatever the driver.
func (q *Sequence) empty() error {
	for began := time.Now(); ; cpu.Nap() {
		if _, err := q.Drain(driver.All); err != nil {
			return err
		}
		// What a queue that is stalled holds, a fresh packet will tell.
		if left, err := q.Held(); err != nil || left == 0 || time.Since(began) > stage.Suspicion {
			return err
		}
	}
}

func (q *Sequence) rename() error {
	link := q.Device().Link()
	name := "renamed" + link.Name()
	if was, ok := strings.CutPrefix(link.Name(), "renamed"); ok {
		name = was
	}
	err := link.Rename(name)
	if errors.Is(err, unix.EBUSY) {
		// Before Linux 6.2 only one that is down can be renamed (net/core/dev.c:
		// dev_change_name).
		return &driver.RefusedError{Why: "the link is up"}
	}
	return err
}

func (q *Sequence) moveThroughNamespace() error {
	if err := q.mayBeStopped(); err != nil {
		return err
	}
	link := q.Device().Link()
	if err := link.MoveThroughNamespace(); err != nil {
		return err
	}
	q.LostQdisc()
	return q.Reopen()
}

// cycleCPU takes the last CPU that nothing is pinned to offline, and online.
func cycleCPU() error {
	const online = "/sys/devices/system/cpu/cpu3/online"
	for _, state := range []string{"0", "1"} {
		// A kernel without CONFIG_HOTPLUG_CPU, or with fewer CPUs, has none.
		if err := os.WriteFile(online, []byte(state), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Settle undoes what keeps the device from working at all: what the driver says of
// its device, and that the link is down. Then everything is read, and what is left
// must be accounted for, and a fresh packet must arrive.
func (q *Sequence) Settle(patience time.Duration) (*stage.Result, error) {
	s := q.Stage
	undo := s.Device().Undo(q)
	link := s.Device().Link()
	if up, err := link.IsUp(); err != nil {
		return nil, err
	} else if !up {
		undo = append(undo, driver.Step{Fault: takeTheLinkUp})
	}
	for _, step := range undo {
		if err := q.Inject(step.Fault, step.N); err != nil {
			return nil, err
		}
	}
	if err := link.AwaitCarrier(); err != nil {
		return nil, err
	}
	// What was on its way to a qdisc that is gone is being freed.
	rcu.Synchronize()
	result := stage.NewResult()
	result.Reached = true
	if err := s.Finish(q.before, result, patience); err != nil {
		return nil, err
	}
	// By what a fault does a ring may drop, and a txq stay stopped that lost its
	// qdisc.
	result.TailDrops, result.AsksToQueue, result.Noqueue = true, 0, false
	q.before = s.Begin()
	return result, nil
}

// Restart begins a new sequence on a device that Settle has found in order: it is
// as it was made.
func (q *Sequence) Restart() error {
	q.steps = nil
	if err := q.Device().Restart(q); err != nil {
		return err
	}
	if err := q.SetQdisc(netdev.Qdisc{Kind: q.setup.Qdisc}); err != nil {
		return err
	}
	err := q.Forget()
	q.before = q.Begin()
	return err
}
