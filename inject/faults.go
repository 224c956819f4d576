package inject

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/rcu"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sys/unix"
)

// Fault is something that happens to a device, by itself. A test can inject
// one with Sequence.Inject; random sequences are made of all of them.
type Fault struct {
	Name string
	// Arguments are what the fault's number may be, for faults that have one:
	// packets, or slots.
	Arguments []int
	// OptIn: it needs a driver that has IFF_BACKPRESSURE.
	OptIn bool
	// Allocation: it needs a kernel whose allocations can be made to fail.
	Allocation bool

	do func(s *Sequence, n int) error
}

// faultQdiscs are those that "replace the qdisc" numbers. Those that shape hold
// no packet for so long that it could be taken for a stall. A pfifo that is not
// told its limit takes what tx_queue_len is at that moment (net/sched/sch_fifo.c:
// fifo_init), and lets nothing pass if that is 0.
var faultQdiscs = []netdev.Qdisc{
	{Kind: netdev.FQCodel}, {Kind: netdev.PfifoFast}, {Kind: netdev.Pfifo, Limit: 1000}, {Kind: netdev.FQ}, {Kind: netdev.MQ}, {Kind: netdev.Noqueue},
	{Kind: netdev.TBF, Rate: 1 << 20, Burst: 2000, Limit: 64 << 10},
	{Kind: netdev.Netem, Delay: 2 * time.Millisecond},
}

// Faults returns all that can happen to any device. A new one needs nothing but
// its entry here.
func Faults() []*Fault {
	return []*Fault{
		{Name: "fill the ring", do: func(s *Sequence, _ int) error { return s.stage.send(s.slots + 1) }},
		{Name: "send", Arguments: []int{1, 2, 3, 20}, do: func(s *Sequence, n int) error { return s.stage.send(n) }},
		{Name: "send past the qdisc", Arguments: []int{1, 3}, do: func(s *Sequence, n int) error { return s.stage.bypass(n) }},
		{Name: "read", Arguments: []int{1, 2, 100}, do: func(s *Sequence, n int) error {
			if !s.attached {
				return nil
			}
			_, err := s.stage.drain(n)
			return err
		}},
		{Name: "read into a bad buffer", Arguments: []int{1, 100}, do: func(s *Sequence, n int) error { return s.stage.readBad(n) }},
		{Name: "read into a buffer that is too short", do: func(s *Sequence, _ int) error { return s.stage.readShort() }},
		{Name: "detach the queue", do: func(s *Sequence, _ int) error {
			if !s.attached {
				return nil
			}
			s.attached = false
			return s.stage.dev.Detach(s.stage.queue)
		}},
		{Name: "attach the queue", do: func(s *Sequence, _ int) error { return s.attach() }},
		{Name: "close the queue of a persistent device, and open it again", do: func(s *Sequence, _ int) error { return s.reopen() }},
		{Name: "close the queue of a persistent device, and open it again with IFF_BACKPRESSURE switched", OptIn: true, do: func(s *Sequence, _ int) error { return s.switchover() }},
		{Name: "set tx_queue_len to", Arguments: []int{0, 1, 2, 16, 500}, do: func(s *Sequence, n int) error {
			s.slots = n
			return s.stage.dev.SetTxQueueLen(n)
		}},
		{Name: "replace the qdisc", Arguments: []int{0, 1, 2, 3, 4, 5, 6, 7}, do: func(s *Sequence, n int) error { return s.replaceQdisc(faultQdiscs[n]) }},
		{Name: "take the link down", do: func(s *Sequence, _ int) error { s.up = false; return s.stage.dev.SetUp(false) }},
		{Name: "take the link up", do: func(s *Sequence, _ int) error { s.up = true; return s.stage.dev.SetUp(true) }},
		{Name: "rename the device", do: func(s *Sequence, _ int) error { return s.rename() }},
		{Name: "move the device to another network namespace and back", do: func(s *Sequence, _ int) error { return s.moveThroughNamespace() }},
		{Name: "set tx_queue_len to 16, with an allocation that fails: the", Arguments: allocations, Allocation: true, do: func(s *Sequence, n int) error {
			return s.failing(n, func() error {
				err := s.stage.dev.SetTxQueueLen(16)
				if err == nil {
					s.slots = 16
				}
				return err
			})
		}},
		{Name: "replace the qdisc by fq_codel, with an allocation that fails: the", Arguments: allocations, Allocation: true, do: func(s *Sequence, n int) error {
			return s.failing(n, func() error { return s.replaceQdisc(netdev.Qdisc{Kind: netdev.FQCodel}) })
		}},
		{Name: "attach the queue, with an allocation that fails: the", Arguments: allocations, Allocation: true, do: func(s *Sequence, n int) error {
			if s.attached {
				return nil
			}
			return s.failing(n, func() error {
				err := s.stage.dev.Attach(s.stage.queue)
				s.attached = err == nil
				return err
			})
		}},
		{Name: "take a CPU offline and online", do: func(*Sequence, int) error {
			const cpu = "/sys/devices/system/cpu/cpu3/online"
			for _, state := range []string{"0", "1"} {
				// A kernel without CONFIG_HOTPLUG_CPU, or with fewer CPUs, has none.
				if err := os.WriteFile(cpu, []byte(state), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
			return nil
		}},
	}
}

// Sequence is a device to which one fault after the other happens.
type Sequence struct {
	stage *Stage
	// What the faults have done to it.
	attached, up bool
	backpressure bool // as it was opened first
	slots        int  // of the ring
	before       account
	steps        []string
	// What they have done to its card: the worker has a buffer with a flaw, or
	// waits for a kick that was withheld.
	flawed, unkicked bool
}

// Faults returns all that can happen to the sequence's device.
func (q *Sequence) Faults() []*Fault {
	if q.stage.card == nil {
		return Faults()
	}
	return append(Faults(), cardFaults()...)
}

// NewSequence makes the device, with a ring of two slots under fq_codel. With
// backpressure it has IFF_BACKPRESSURE; with vhost vhost-net consumes.
func NewSequence(backpressure, vhost bool) (*Sequence, error) {
	stage, err := NewStage(Setting{Ring: 2, Qdisc: netdev.FQCodel, Backpressure: backpressure, Vhost: vhost})
	if err != nil {
		return nil, err
	}
	q := &Sequence{stage: stage, attached: true, up: true, backpressure: backpressure, slots: 2, before: stage.account()}
	if err := q.resetCard(); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

// Close removes the device.
func (q *Sequence) Close() error { return q.stage.Close() }

// Inject lets one fault happen; n is its number, if it has one.
func (q *Sequence) Inject(f *Fault, n int) error {
	step := f.Name
	switch {
	case f.Name == "replace the qdisc":
		step = fmt.Sprintf("replace the qdisc by %v", faultQdiscs[n])
	case f.Allocation:
		step = fmt.Sprintf("%s %d.", f.Name, n)
	case len(f.Arguments) > 0:
		step = fmt.Sprintf("%s %d", f.Name, n)
	}
	q.steps = append(q.steps, step)
	err := f.do(q, n)
	if errors.Is(err, unix.ENOMEM) {
		// An mq has a qdisc for each of 256 txqs, and those of the one before
		// are still being freed. The device is as it was.
		rcu.Synchronize()
		if err = f.do(q, n); errors.Is(err, unix.ENOMEM) {
			q.steps[len(q.steps)-1] += " (refused: no memory)"
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}

// Script is what has happened so far, a line each.
func (q *Sequence) Script() string {
	var b strings.Builder
	for i, step := range q.steps {
		fmt.Fprintf(&b, "%d. %s\n", i+1, step)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (q *Sequence) replaceQdisc(by netdev.Qdisc) error {
	if by.Kind == netdev.Noqueue {
		q.steps[len(q.steps)-1] += ", after all is read"
		if err := q.empty(); err != nil {
			return err
		}
	}
	err := q.stage.dev.SetQdisc(by)
	switch {
	case err == nil:
		q.stage.Qdisc = by.Kind
	case q.slots == 0 && errors.Is(err, unix.EINVAL):
		// net/sched/sch_generic.c: pfifo_fast_init wants a tx_queue_len.
		q.steps[len(q.steps)-1] += " (refused: no tx_queue_len)"
		return nil
	}
	return err
}

// empty reads until the qdisc holds nothing. A driver is not told that its qdisc
// is gone, so that a txq which is stopped stays so until the consumer has woken
// it, and until then the core complains of every packet, whatever the driver.
func (q *Sequence) empty() error {
	for began := time.Now(); ; nap() {
		if q.attached {
			if _, err := q.stage.drain(all); err != nil {
				return err
			}
		}
		// What a queue that is stalled holds, a fresh packet will tell.
		if left, err := q.stage.qlen(); err != nil || left == 0 || time.Since(began) > Suspicion {
			return err
		}
	}
}

func (q *Sequence) rename() error {
	name := "renamed" + q.stage.dev.Name()
	if was, ok := strings.CutPrefix(q.stage.dev.Name(), "renamed"); ok {
		name = was
	}
	return q.stage.dev.Rename(name)
}

// moveThroughNamespace moves the device to another network namespace and back. When it is up
// again it has the qdisc that devices with so many txqs begin with.
func (q *Sequence) moveThroughNamespace() error {
	q.up = false
	if err := q.stage.dev.MoveThroughNamespace(); err != nil {
		return err
	}
	q.stage.Qdisc = netdev.MQ
	for _, sender := range q.stage.senders() {
		if err := sender.Reopen(); err != nil {
			return err
		}
	}
	return nil
}

func (q *Sequence) attach() error {
	if q.attached {
		return nil
	}
	q.attached = true
	return q.stage.dev.Attach(q.stage.queue)
}

func (q *Sequence) reopen() error {
	// A backend holds the queue open.
	return q.whileStopped(q.reopenQueue)
}

func (q *Sequence) reopenQueue() error {
	q.attached = true
	s := q.stage
	if err := s.reopen(); err != nil || s.card == nil {
		return err
	}
	return s.card.Retarget(s.dev.Queues()[s.queue])
}

// switchover turns IFF_BACKPRESSURE on or off, which only a queue that is the
// first one to be opened does (drivers/net/tun.c: tun_set_iff).
func (q *Sequence) switchover() error {
	q.stage.Backpressure = !q.stage.Backpressure
	q.stage.dev.Switch(tuntap.IFFBackpressure)
	return q.reopen()
}

// Settle undoes what keeps the device from working at all: it attaches the
// queue, gives the ring a slot and takes the link up. Then everything is read,
// and what is left must be accounted for, and a fresh packet must arrive.
func (q *Sequence) Settle(patience time.Duration) (*Result, error) {
	s := q.stage
	var undo []string
	if !q.attached {
		undo = append(undo, "attach the queue")
	}
	if q.slots == 0 {
		undo = append(undo, "set tx_queue_len to")
	}
	if !q.up {
		undo = append(undo, "take the link up")
	}
	undo = append(undo, q.cardUndo()...)
	for _, f := range q.Faults() {
		if slices.Contains(undo, f.Name) {
			if err := q.Inject(f, 2); err != nil {
				return nil, err
			}
		}
	}
	if err := s.dev.AwaitCarrier(); err != nil {
		return nil, err
	}
	// What was on its way to a qdisc that is gone is being freed.
	rcu.Synchronize()
	result := &Result{Reached: true, began: time.Now()}
	if err := s.judge(q.before, result, patience); err != nil {
		return nil, err
	}
	q.before = s.account()
	return result, nil
}

// Broken says which promise the result of Settle breaks, whatever the contract;
// "" is none.
func (r *Result) Broken() (contract.Promise, string) {
	switch {
	case r.Stalled != "":
		return contract.NoStall, r.Stalled
	case len(r.Books.Quiet) > 0:
		return contract.NoTailDrop, r.Books.Silent()
	case r.Wrong > 0:
		return contract.NoTailDrop, fmt.Sprintf("%d packets arrived twice, out of order or altered", r.Wrong)
	}
	return "", ""
}

// send sends through the qdisc. A device that is down refuses, which is
// counted and no error.
func (s *Stage) send(packets int) error {
	for range packets {
		s.filler.Send()
	}
	return nil
}

func (s *Stage) bypass(packets int) error {
	for range packets {
		s.second.Send()
	}
	return nil
}

// reopen makes the device persistent, closes its queue, and opens another.
func (s *Stage) reopen() error {
	if err := s.dev.SetPersist(true); err != nil {
		return err
	}
	if err := s.dev.CloseQueue(s.queue); err != nil {
		return err
	}
	queue, err := s.dev.AddQueue()
	if err != nil {
		return err
	}
	s.queue = queue
	s.receiver.Reopen(s.dev.Queues()[queue])
	return nil
}

// readBad reads into memory that is not there. The driver has taken the packet
// from the ring by then, and frees it.
func (s *Stage) readBad(packets int) error {
	for range packets {
		switch _, _, errno := unix.Syscall(unix.SYS_READ, uintptr(s.dev.Queues()[s.queue]), 8, 2048); errno {
		case unix.EFAULT:
			s.ring.consume()
		case unix.EAGAIN, unix.EBADFD:
			return nil
		case 0:
			return errors.New("read into a bad buffer: it succeeded")
		default:
			return fmt.Errorf("read into a bad buffer: %w, want EFAULT", errno)
		}
	}
	return nil
}

// readShort reads less than a packet, and throws it away.
func (s *Stage) readShort() error {
	var buf [20]byte
	_, err := unix.Read(s.dev.Queues()[s.queue], buf[:])
	switch {
	case err == nil:
		s.truncated++
		return nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EBADFD):
		return nil
	}
	return err
}

// Restart begins a new sequence on a device that Settle has found in order: its
// ring has two slots again, its qdisc is fq_codel, and IFF_BACKPRESSURE as it
// was first.
func (q *Sequence) Restart() error {
	q.steps, q.slots = nil, 2
	if q.stage.Backpressure != q.backpressure {
		if err := q.switchover(); err != nil {
			return err
		}
	}
	if err := q.stage.dev.SetTxQueueLen(2); err != nil {
		return err
	}
	q.stage.Qdisc = netdev.FQCodel
	if err := q.stage.dev.SetQdisc(netdev.Qdisc{Kind: netdev.FQCodel}); err != nil {
		return err
	}
	if err := q.resetCard(); err != nil {
		return err
	}
	_, err := q.stage.freed()
	q.before = q.stage.account()
	return err
}
