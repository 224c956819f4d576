package guest

import (
	"cmp"
	"errors"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/liveness"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/vmtests/matrix"
)

// TestNoTailDrop fills the rings of a device with a qdisc while its consumer
// sleeps, then lets producers and consumers race.
func TestNoTailDrop(t *testing.T) { each(t, noTailDrop) }

func noTailDrop(t *testing.T) {
	promises := []contract.Promise{contract.NoTailDrop, contract.NoStall}
	for _, c := range cells() {
		if c.Qdisc != string(netdev.Noqueue) {
			overrunCell(t, c, promises)
		}
	}
	for _, s := range senders {
		overrunFrom(t, s, netdev.FQCodel, promises)
	}
	for _, reader := range subject.OtherReaders {
		cfg := rigConfig{mode: reader.Mode, txQueue: cmp.Or(reader.TxQueueLen, 16), qdisc: netdev.Qdisc{Kind: netdev.Pfifo, Limit: 1000}, readers: &reader.Consumer}
		overrun(t, "reader/"+reader.Name, cfg, promises, func(r *rig) { r.produce(2, traffic.PacketSocket) }, reader.Packets)
	}
	variants(t, "link-cycle", func(t *testing.T, backpressure bool) {
		r := newRig(t, rigConfig{txQueue: 4, qdisc: netdev.Qdisc{Kind: netdev.FQCodel}, backpressure: backpressure}, promises...)
		r.changeFull(func() error { return errors.Join(r.dev.SetUp(false), r.dev.SetUp(true)) })
	})
	if subject != tun.Driver {
		return
	}
	for _, path := range []traffic.Path{traffic.XDPRedirect, traffic.XDPTransmit} {
		variants(t, "sender/"+path.String(), func(t *testing.T, backpressure bool) {
			r := newRig(t, rigConfig{txQueue: 4, qdisc: netdev.Qdisc{Kind: netdev.FQCodel}, backpressure: backpressure}, promises...)
			r.framesFill(path)
		})
	}
	variants(t, "shrink", func(t *testing.T, backpressure bool) {
		r := newRig(t, rigConfig{txQueue: 100, qdisc: netdev.Qdisc{Kind: netdev.FQCodel}, backpressure: backpressure}, promises...)
		r.changeFull(func() error { return r.dev.SetTxQueueLen(10) })
	})
}

// framesFill fills the ring with XDP frames, again and again, and sends packets
// through the qdisc then. XDP does not ask whether the queue is stopped.
func (r *rig) framesFill(path traffic.Path) {
	r.t.Helper()
	frames, err := traffic.NewSender(r.link, traffic.SenderConfig{Path: path, Source: 1, Queue: r.made.Queues()[0]})
	if err != nil {
		r.lacking(err)
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.closing(frames.Close()) })
	r.senders = append(r.senders, frames)
	packets := r.sender(2, traffic.PacketSocket)
	r.overlap = 2 // XDP, and the qdisc
	for range 5 {
		for range r.cfg.txQueue {
			if _, err := frames.Send(); err != nil {
				r.lacking(err)
				r.t.Fatal(err)
			}
		}
		for range 3 {
			if _, err := packets.Send(); err != nil {
				r.t.Fatal(err)
			}
		}
		r.press()
		r.consumer.Resume()
		if err := liveness.Settle(r.oracle()); err != nil {
			r.t.Fatal(err)
		}
		stats, err := r.dev.QdiscStats()
		if err != nil {
			r.t.Fatal(err)
		}
		if netdev.SumQdiscs(stats).Qlen > 0 {
			break // it is stalled, as the oracle will find
		}
		r.consumer.Pause()
	}
	r.consumer.Resume()
	r.decide()

	// The frames of xdp-redirect are of a page pool, where lockdep reports
	// those that come back with interrupts disabled (net/core/page_pool.c:
	// __page_pool_put_page). The books are closed, for no tracepoint sees
	// that frames are freed.
	r.consumer.Pause()
	for range r.cfg.txQueue {
		if _, err := frames.Send(); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := r.dev.SetTxQueueLen(1); err != nil {
		r.t.Fatal(err)
	}
}

// changeFull changes a device whose ring is full, and stays full. What no longer
// fits is freed, which is neither a tail drop nor lost without an account; what
// comes next has to wait.
func (r *rig) changeFull(change func() error) {
	r.t.Helper()
	r.ledger.Reconfigured()
	s := r.sender(1, traffic.PacketSocket)
	send := func(packets int) {
		for range packets {
			if _, err := s.Send(); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	send(r.slots() + 20)
	r.press()
	if err := change(); err != nil {
		r.t.Fatal(err)
	}
	send(3)
	r.consumer.Resume()
	r.decide()
}

// overrun starts sources against a consumer that sleeps, until a ring is full,
// lets both race until so many packets have arrived, and decides the promises.
func overrun(t *testing.T, name string, cfg rigConfig, promises []contract.Promise, sources func(*rig), packets uint64) {
	variants(t, name, func(t *testing.T, backpressure bool) {
		cfg.backpressure = backpressure
		r := newRig(t, cfg, promises...)
		sources(r)
		r.press()
		r.race(packets)
		r.decide()
	})
}

// overrunCell does so with the device and the load of a cell of the matrix.
func overrunCell(t *testing.T, c matrix.Cell, promises []contract.Promise) {
	overrun(t, c.String(), fromCell(c), promises, func(r *rig) { r.produce(c.Producers, traffic.PacketSocket) }, enough(c))
}

// overrunFrom does so from two senders of a kind.
func overrunFrom(t *testing.T, s sender, qdisc netdev.Kind, promises []contract.Promise) {
	cfg := rigConfig{txQueue: 16, qdisc: netdev.Qdisc{Kind: qdisc}}
	overrun(t, "sender/"+s.name, cfg, promises, func(r *rig) { s.start(r, 2) }, 2000)
}

type sender struct {
	name  string
	start func(r *rig, n int)
}

// senders are the other ways to a driver, than packet sockets through the
// qdisc; on tap, because pktgen makes Ethernet frames only. Only those that go
// around the root qdisc let two transmits on a txq overlap.
var senders = []sender{
	{"udp", func(r *rig, n int) { r.produce(n, traffic.UDPSocket) }},
	{"bypass", func(r *rig, n int) { r.produce(n, traffic.PacketBypass) }},
	{"pktgen-queue_xmit", func(r *rig, n int) { r.generate(n, true) }},
	{"pktgen-start_xmit", func(r *rig, n int) { r.generate(n, false) }},
}

// variants runs a check once, or, for the opt-in contract, without and with
// the flag that opts in.
func variants(t *testing.T, name string, check func(t *testing.T, backpressure bool)) {
	if contractOf(t) != contract.OptIn {
		t.Run(name, func(t *testing.T) { check(t, false) })
		return
	}
	t.Run(name+"/off", func(t *testing.T) { check(t, false) })
	t.Run(name+"/on", func(t *testing.T) { check(t, true) })
}

func cells() []matrix.Cell {
	var modes []string
	for _, mode := range subject.Modes {
		if !mode.Free && !mode.Beside {
			modes = append(modes, mode.Name)
		}
	}
	if testing.Short() {
		return matrix.Short(modes, subject.TxQueueLens)
	}
	return matrix.All(modes, subject.TxQueueLens)
}

func fromCell(c matrix.Cell) rigConfig {
	cfg := rigConfig{
		mode: c.Mode, queues: c.Queues, txQueue: c.TxQueue,
		qdisc: netdev.Qdisc{Kind: netdev.Kind(c.Qdisc)}, perQueue: c.Consumers,
	}
	if cfg.qdisc.Kind == netdev.TBF {
		// Some 12,000 packets a second: shaped, but never for longer than a
		// moment.
		cfg.qdisc.Rate, cfg.qdisc.Burst, cfg.qdisc.Limit = 2<<20, 16<<10, 1<<20
	}
	return cfg
}

// enough is how many packets shall arrive: each ring is filled and emptied
// more than once.
func enough(c matrix.Cell) uint64 {
	return uint64(1000 + 2*max(c.TxQueue, subject.Ring))
}
