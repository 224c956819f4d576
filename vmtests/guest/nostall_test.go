package guest

import (
	"cmp"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/liveness"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
)

// TestNoStall fills a ring to just below, exactly, and just above its size,
// again and again, so that the queue is stopped by each slot in turn, and asks
// after each time that the consumer has drained it whether the queue still
// moves. The other tests ask once, at their end.
func TestNoStall(t *testing.T) { each(t, noStall) }

func noStall(t *testing.T) {
	lengths := []int{1, 2, 16, 33, 500}
	switch {
	case subject.Ring != 0:
		lengths = []int{subject.Ring}
	case testing.Short():
		lengths = []int{1, 16}
	}
	for _, kind := range []netdev.Kind{netdev.PfifoFast, netdev.FQCodel, netdev.Noqueue} {
		for _, length := range lengths {
			variants(t, fmt.Sprintf("%s/len%d", kind, length), func(t *testing.T, backpressure bool) {
				r := newRig(t, rigConfig{txQueue: length, qdisc: netdev.Qdisc{Kind: kind}, backpressure: backpressure}, contract.NoStall)
				r.cycle(length)
			})
		}
	}
	if subject == tun.Driver {
		variants(t, "detach", detachFull)
	}
	variants(t, "each-queue", func(t *testing.T, backpressure bool) {
		r := newRig(t, rigConfig{queues: 4, txQueue: 2, qdisc: netdev.Qdisc{Kind: netdev.MQ}, backpressure: backpressure}, contract.NoStall)
		r.stop(r.fresh)
		r.consumer.Resume()
		r.decide()
	})
	// Another's ring would start the txq that was stopped in the place of its own.
	variants(t, "one-queue", func(t *testing.T, backpressure bool) {
		r := newRig(t, rigConfig{queues: 4, txQueue: 2, qdisc: netdev.Qdisc{Kind: netdev.MQ}, backpressure: backpressure}, contract.NoStall)
		r.stop(r.fresh[3:])
		r.consumer.Resume()
		r.decide()
	})
	for _, mode := range subject.Modes {
		if !mode.Free && !mode.Beside {
			continue
		}
		variants(t, mode.Name, func(t *testing.T, backpressure bool) {
			qdisc := netdev.Qdisc{Kind: netdev.MQ}
			if mode.TxQueues == 1 {
				qdisc = netdev.Qdisc{Kind: netdev.Pfifo, Limit: 1000}
			}
			r := newRig(t, rigConfig{mode: mode.Name, queues: cmp.Or(mode.TxQueues, 4), txQueue: 1000, qdisc: qdisc, backpressure: backpressure}, contract.NoStall)
			if !mode.Free {
				r.stop(r.fresh)
			}
			r.produce(2, traffic.PacketSocket)
			r.race(5000)
			r.decide()
		})
	}
	// All that finds a txq stopped waits.
	waits := netdev.Qdisc{Kind: netdev.MQ, Leaf: &netdev.Qdisc{Kind: netdev.Pfifo, Limit: 1000}}
	for _, change := range subject.Changes {
		variants(t, change.Name, func(t *testing.T, backpressure bool) {
			r := newRig(t, rigConfig{mode: change.Mode, queues: change.TxQueues, txQueue: 2, qdisc: waits, backpressure: backpressure}, contract.NoStall)
			r.change(change)
		})
	}
	variants(t, "noqueue-while-stopped", func(t *testing.T, backpressure bool) {
		r := newRig(t, rigConfig{txQueue: 2, qdisc: netdev.Qdisc{Kind: netdev.FQCodel}, backpressure: backpressure}, contract.NoStall)
		r.takeQdisc()
	})
	variants(t, "read-while-down", func(t *testing.T, backpressure bool) {
		r := newRig(t, rigConfig{txQueue: 2, qdisc: netdev.Qdisc{Kind: netdev.FQCodel}, backpressure: backpressure}, contract.NoStall)
		r.readWhileDown()
	})
	variants(t, "dead-reader", func(t *testing.T, backpressure bool) {
		r := newRig(t, rigConfig{txQueue: 2, qdisc: netdev.Qdisc{Kind: netdev.FQCodel}, backpressure: backpressure}, contract.NoStall)
		r.senderMeetsDeadReader()
	})
}

// stop fills the rings that these senders reach, and sends more: then their txqs are
// stopped.
func (r *rig) stop(senders []liveness.Sender) {
	r.t.Helper()
	step("fill rings, and send more", "")
	for range r.slots() + 2 {
		for _, s := range senders {
			if _, err := s.Send(); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// change has every txq stopped, and changes the device meanwhile. Then everything is
// taken, and the device changed back.
func (r *rig) change(c driver.Change) {
	r.t.Helper()
	r.ledger.Reconfigured()
	if c.Before != nil {
		r.consumer.Resume()
		if err := c.Before(r.made); err != nil {
			r.t.Fatal(err)
		}
		for _, s := range r.fresh {
			if _, err := s.Send(); err != nil {
				r.t.Fatal(err)
			}
		}
		if err := r.consumer.Flush(); err != nil {
			r.t.Fatal(err)
		}
	}
	r.stop(r.fresh)
	stats, err := r.dev.QdiscStats()
	if err != nil {
		r.t.Fatal(err)
	}
	if waiting := netdev.SumQdiscs(stats).Qlen; waiting == 0 {
		r.t.Fatal("the rings are full, and the qdisc holds nothing: no txq is stopped")
	}
	step("change the device: "+c.Name, "")
	if err := c.Do(r.made); err != nil {
		r.t.Fatal(err)
	}
	r.consumer.Resume()
	if err := liveness.Settle(r.oracle()); err != nil {
		r.t.Fatal(err)
	}
	step("change the device back", "")
	if err := c.Undo(r.made); err != nil {
		r.t.Fatal(err)
	}
	r.decide()
}

// senderMeetsDeadReader sends to a device that nobody reads from, through a
// socket with the usual send buffer, until that is full: packets that a qdisc
// holds are the sender's. Then the same socket cannot send to another device
// either. How many it takes is logged. Once there is a reader, it goes on.
func (r *rig) senderMeetsDeadReader() {
	r.t.Helper()
	other, err := tuntap.Open(tuntap.Config{Mode: tuntap.TAP, Qdisc: netdev.Qdisc{Kind: netdev.FQCodel}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.closing(other.Close()) })
	elsewhere, err := traffic.LinkByName(other.Name())
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := traffic.NewSender(r.link, traffic.SenderConfig{Path: traffic.PacketSocket, Source: 1})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.closing(s.Close()) })
	r.senders = append(r.senders, s)
	const most = 1000 // short packets: more than three send buffers
	taken := 0
	for ; taken < most; taken++ {
		outcome, err := s.Send()
		if err != nil {
			r.t.Fatal(err)
		}
		if outcome == traffic.Full {
			break
		}
	}
	toOther := func() traffic.Outcome {
		outcome, err := s.SendElsewhere(elsewhere)
		if err != nil {
			r.t.Fatal(err)
		}
		return outcome
	}
	r.t.Logf("nobody reads: the socket took %d packets of %d; then one to another device: %v", taken, most, toOther())
	r.consumer.Resume()
	if err := liveness.Settle(r.oracle()); err != nil {
		r.t.Fatal(err)
	}
	if outcome := toOther(); outcome != traffic.Sent {
		r.t.Errorf("everything was read, and the socket cannot send to another device: %v", outcome)
	}
	r.decide()
}

// takeQdisc puts noqueue in the place of a qdisc whose queue is stopped. The
// driver is not told (net/sched/sch_generic.c: dev_deactivate_many), so that the
// core would refuse what is sent now, and log that the device asks to queue it.
// That ends when the consumer has woken the queue.
func (r *rig) takeQdisc() {
	r.t.Helper()
	r.ledger.Reconfigured()
	for range r.slots() + 2 {
		if _, err := r.fresh[0].Send(); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := r.dev.SetQdisc(netdev.Qdisc{Kind: netdev.Noqueue}); err != nil {
		r.t.Fatal(err)
	}
	r.consumer.Resume()
	r.decide()
}

// readWhileDown takes the link down while the queue is stopped, and up when
// everything was read: a consumer must not wake the queue of a device that is
// down, and there is nothing to consume when it is up.
func (r *rig) readWhileDown() {
	r.t.Helper()
	r.ledger.Reconfigured()
	for range r.slots() + 2 {
		if _, err := r.fresh[0].Send(); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := r.dev.SetUp(false); err != nil {
		r.t.Fatal(err)
	}
	r.consumer.Resume()
	if err := liveness.Settle(r.oracle()); err != nil {
		r.t.Fatal(err)
	}
	if err := r.dev.SetUp(true); err != nil {
		r.t.Fatal(err)
	}
	r.decide()
}

// detachFull detaches the first of two queues while its ring is full: the last
// one takes its place, and its txq (drivers/net/tun.c: __tun_detach).
func detachFull(t *testing.T, backpressure bool) {
	r := newRig(t, rigConfig{queues: 2, txQueue: 2, qdisc: netdev.Qdisc{Kind: netdev.MQ}, backpressure: backpressure}, contract.NoStall)
	step("detach a queue whose ring is full", "")
	r.ledger.Reconfigured()
	for range r.cfg.txQueue + 1 {
		if _, err := r.fresh[0].Send(); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := tun.Of(r.made).Detach(0); err != nil {
		r.t.Fatal(err)
	}
	// One txq is left, to which all flows go.
	r.fresh, r.bypass = r.fresh[:1], r.bypass[:1]
	r.consumer.Resume()
	r.decide()
}

// cycle fills and drains.
func (r *rig) cycle(length int) {
	const cycles = 5
	s := r.sender(1, traffic.PacketSocket)
	for range cycles {
		for _, n := range []int{length - 1, length, length + 1, length + 3} {
			step(fmt.Sprintf("send %s into a ring of %d, and see whether the queue still moves", contract.Count(n, "packet"), length), "")
			r.consumer.Pause()
			for range n {
				if _, err := s.Send(); err != nil {
					r.t.Fatal(err)
				}
			}
			r.consumer.Resume()
			if stall, err := liveness.Check(r.oracle()); err != nil || stall != nil {
				r.t.Logf("after %s into a ring of %d", contract.Count(n, "packet"), length)
				r.liveness(stall, err)
				return
			}
		}
	}
	r.decide()
}

// sender is a socket for a test to send from, packet by packet; what it sends
// is in the books.
func (r *rig) sender(source uint8, path traffic.Path) *traffic.Sender {
	r.t.Helper()
	s, err := traffic.NewSender(r.link, traffic.SenderConfig{Path: path, Source: source, SendBuffer: 64 << 20})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.closing(s.Close()) })
	r.senders = append(r.senders, s)
	return s
}

// Sources from which fresh packets come, beyond those that tests use.
const (
	freshSource  = 254
	bypassSource = 255
)

// probes finds a flow to each txq.
func (r *rig) probes(source uint8, path traffic.Path) (probes []liveness.Sender) {
	r.t.Helper()
	s := r.sender(source, path)
	if len(r.made.Queues()) == 1 {
		return []liveness.Sender{s}
	}
	// So many that a queue without a flow is out of the question: the hash
	// has another key at each boot.
	byQueue, err := traffic.FlowsByQueue(s, r.consumer, 64)
	if lost := (*traffic.NotArrivedError)(nil); errors.As(err, &lost) {
		r.stalledEarly(s, lost)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	for queue, flows := range byQueue {
		if len(flows) == 0 {
			r.t.Fatalf("none of 64 flows goes to queue %d: %v", queue, byQueue)
		}
		probes = append(probes, &probe{s, flows[0]})
	}
	return probes
}

// stalledEarly asks the stall oracle about a device that does not even let the
// packets through by which its queues are found: s is on the flow of one of those.
// Nobody else sends, and the consumer reads. It ends the test if that is a stall.
func (r *rig) stalledEarly(s *traffic.Sender, lost *traffic.NotArrivedError) {
	r.t.Helper()
	step("ask the stall oracle", "")
	r.fresh = []liveness.Sender{s}
	stall, err := liveness.Check(r.oracle())
	if stall == nil && err == nil {
		return
	}
	r.liveness(stall, err)
	r.t.Fatal(lost)
}

// probe sends on one flow of a sender.
type probe struct {
	sender *traffic.Sender
	flow   uint16
}

func (p *probe) Send() (traffic.Outcome, error) {
	p.sender.SetFlow(p.flow)
	return p.sender.Send()
}

// flush waits until what was sent is in the rings, and what was taken from them is received.
func (r *rig) flush() error {
	return errors.Join(r.made.Settle(), r.consumer.Flush())
}

// oracle is how the stall oracle shall look at the device.
func (r *rig) oracle() liveness.Config {
	cfg := liveness.Config{
		Device: r.dev, Queues: r.made.Queues(), Received: r.consumer.Received, Flush: r.flush, Asleep: r.consumer.Asleep,
		Fresh: r.fresh, Bypass: r.bypass, Revivals: r.made.Revivals(),
	}
	if r.cfg.qdisc.Shaped() {
		cfg.Hold = 100 * time.Millisecond
	}
	return cfg
}

// liveness reports the verdict on no-stall.
func (r *rig) liveness(stall *liveness.Stall, err error) {
	r.t.Helper()
	if stall != nil {
		r.t.Log(stall)
	}
	outcome, why := stallVerdict(stall, err)
	r.verdict(contract.NoStall, outcome, why, nil)
}

// stallVerdict is what the stall oracle's answer makes of no-stall.
func stallVerdict(stall *liveness.Stall, err error) (contract.Outcome, string) {
	switch {
	case err != nil:
		return contract.Undecided, err.Error()
	case stall != nil:
		return contract.Broken, stall.Error()
	}
	return contract.Kept, "the backlog went to 0, and a fresh packet arrived on each queue"
}
