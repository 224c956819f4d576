package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/kmsg"
	"github.com/ringproof/ringproof/internal/guest/ledger"
	"github.com/ringproof/ringproof/internal/guest/liveness"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
)

// rig is a device under test with its consumer, its ledger, and what sends
// through it.
type rig struct {
	t        *testing.T
	contract contract.Contract
	cfg      rigConfig
	decides  []contract.Promise
	made     driver.Made
	dev      *netdev.Device
	link     *traffic.Link
	ledger   *ledger.Ledger
	consumer *traffic.Consumer
	log      *kmsg.Log
	sources  []traffic.Source
	// senders are those that a test sends from itself.
	senders []*traffic.Sender
	// fresh and bypass reach each txq, through the qdisc and past it.
	fresh, bypass []liveness.Sender
	// direct is set if a source does not pass through the qdisc.
	direct bool
	// overlap is how many transmits can run at once on one txq.
	overlap int
	pressed bool
	// kernelConsumes: what is read was taken from the rings before.
	kernelConsumes bool
	// stops counts the stops of the queue where a contract asks for them.
	stops *breakpoint.Stops
}

type rigConfig struct {
	mode         string // of the driver; "" is its usual one
	queues       int    // 0 is one
	txQueue      int    // tx_queue_len
	qdisc        netdev.Qdisc
	backpressure bool
	// readers is how packets are read, if not as the mode has it.
	readers *traffic.ConsumerConfig
	// perQueue is how many readers there are for each queue; 0 is one.
	perQueue int
}

// newRig makes a device, with its consumer paused, for a test that decides
// these promises. What the kernel lacks skips the test, and each of its
// promises is reported as not run. The test ends with a call of decide.
func newRig(t *testing.T, cfg rigConfig, decides ...contract.Promise) *rig {
	t.Helper()
	begin(t, decides...)
	return makeRig(t, cfg, decides...)
}

// makeRig does so within a test that has begun.
func makeRig(t *testing.T, cfg rigConfig, decides ...contract.Promise) *rig {
	t.Helper()
	r := &rig{t: t, contract: contractOf(t), cfg: cfg, decides: decides, overlap: 1}
	if err := r.open(); err != nil {
		r.lacking(err)
		t.Fatal(err)
	}
	return r
}

func (r *rig) open() (err error) {
	mode := subject.Modes[0]
	for _, m := range subject.Modes {
		if m.Name == r.cfg.mode {
			mode = m
		}
	}
	readers := mode.Consumer
	if r.cfg.readers != nil {
		readers = *r.cfg.readers
	}
	readers.Readers = max(readers.Readers, r.cfg.perQueue)
	step("make the device", "")
	r.made, err = subject.Make(driver.Shape{
		Mode: mode.Name, TxQueues: r.cfg.queues, TxQueueLen: r.cfg.txQueue,
		Qdisc: r.cfg.qdisc, Backpressure: r.cfg.backpressure,
	})
	if err != nil {
		return err
	}
	r.dev = r.made.Link()
	readers.Taker = r.made.Taker()
	r.kernelConsumes = readers.Queue != nil || readers.Taker != nil
	r.t.Cleanup(func() { r.closing(r.made.Close()) })
	step("open its ledger", "")
	if r.link, err = traffic.LinkByName(r.dev.Name()); err != nil {
		return err
	}
	if r.ledger, err = ledger.Open(r.made.Counters(), subject, r.made.Far()); err != nil {
		return err
	}
	r.t.Cleanup(func() { r.closing(r.ledger.Close()) })
	if r.log, err = kmsg.Open(); err != nil {
		return err
	}
	r.t.Cleanup(func() { r.closing(r.log.Close()) })
	step("start its consumer", "")
	readers.Paused = true
	if r.consumer, err = traffic.Consume(r.link, r.made.Queues(), readers); err != nil {
		return err
	}
	r.t.Cleanup(func() { r.closing(r.consumer.Stop()) })
	r.consumer.Resume()
	if r.contract.Of(r.cfg.backpressure) == contract.RareDrop {
		// Without, drops decide nothing, and there need not be any.
		stops, err := breakpoint.CountStops()
		if err != nil {
			r.t.Logf("stops of the queue are not counted: %v", err)
		} else {
			r.stops = stops
			r.t.Cleanup(func() { r.closing(stops.Close()) })
		}
	}
	step("find a flow to each queue", "")
	if subject.TxqOfCPU && r.cfg.queues > 1 {
		// None past the qdisc has a flow to each queue.
		r.fresh = r.probes(freshSource, traffic.UDPSocket)
	} else {
		r.fresh = r.probes(freshSource, traffic.PacketSocket)
		r.bypass = r.probes(bypassSource, traffic.PacketBypass)
	}
	r.consumer.Pause()
	return nil
}

// slots is how many packets a ring takes.
func (r *rig) slots() int {
	if subject.Ring != 0 {
		return subject.Ring
	}
	return r.cfg.txQueue
}

func (r *rig) closing(err error) {
	if err != nil {
		r.t.Error(err)
	}
}

// lacking skips the test if err says that the kernel lacks something.
func (r *rig) lacking(err error) {
	r.t.Helper()
	lacking(r.t, r.contract, r.decides, err)
}

// contractOf is the contract that the host asks for, with auto replaced.
func contractOf(t *testing.T) contract.Contract {
	t.Helper()
	c, err := contract.Parse(os.Getenv("CONTRACT"))
	if err != nil {
		t.Fatal(err)
	}
	if c != contract.Auto {
		return c
	}
	claimed, err := subject.Contract()
	if missing := (*kernelfeature.MissingError)(nil); err != nil && !errors.As(err, &missing) {
		t.Fatal(err) // without the driver, every check says so itself
	}
	return claimed
}

// produce starts n producers on the path, each with several flows.
func (r *rig) produce(n int, path traffic.Path) {
	r.t.Helper()
	step("start producers", "")
	r.direct = path == traffic.PacketBypass
	if r.direct || r.cfg.qdisc.Kind == netdev.Noqueue {
		r.overlap = n
	}
	for i := range n {
		cpu := i
		p, err := traffic.StartProducer(r.link, traffic.ProducerConfig{
			SenderConfig: traffic.SenderConfig{
				Path: path, Source: uint8(i + 1), Flows: flowsEach,
				// More than any qdisc here holds, so that the qdisc is what
				// refuses, and not the socket.
				SendBuffer: 64 << 20,
			},
			CPU: &cpu,
			// A producer that only collects refusals keeps the consumer from
			// its CPU.
			Backoff: 200 * time.Microsecond,
		})
		if err != nil {
			r.lacking(err)
			r.t.Fatal(err)
		}
		r.add(p)
	}
}

// generate starts pktgen on n CPUs.
func (r *rig) generate(n int, throughQdisc bool) {
	r.t.Helper()
	step("start pktgen", "")
	r.direct = !throughQdisc
	if r.direct || r.cfg.qdisc.Kind == netdev.Noqueue {
		r.overlap = n
	}
	var cpus []int
	for i := range n {
		cpus = append(cpus, i)
	}
	p, err := traffic.StartPktgen(r.link, traffic.PktgenConfig{
		Qdisc: throughQdisc, CPUs: cpus, FirstSource: 1, Flows: flowsEach,
		Interval: 20 * time.Microsecond,
	})
	if err != nil {
		r.lacking(err)
		r.t.Fatal(err)
	}
	r.add(p)
}

func (r *rig) add(s traffic.Source) {
	r.sources = append(r.sources, s)
	r.t.Cleanup(func() { r.closing(s.Stop()) })
}

// flowsEach is how many flows a source has, so that with several txqs each is
// likely to get some.
const flowsEach = 8

func (r *rig) counts() (sum traffic.Counts) {
	for _, s := range r.sources {
		sum.Add(s.Counts())
	}
	return sum
}

const (
	// still is for how long nothing may have moved before a ring is believed
	// to be full. A shaped qdisc, which may hold packets while there is room, is
	// given stillShaped: its next packet is due within a hundredth of it, but
	// waits for a timer on a CPU that may be late.
	still       = 50 * time.Millisecond
	stillShaped = 10 * still
	// pressure bounds how long it may take until a ring is full.
	pressure = 10 * time.Second
	// progress is how long nothing may arrive, while producers send, before
	// the run is cut short and the stall oracle is asked.
	progress = 2 * time.Second
)

// press lets the sources run against the paused consumer until a ring is full:
// the driver dropped for it, or packets wait and the driver takes no more.
func (r *rig) press() {
	r.t.Helper()
	step("fill the rings", "")
	var taken uint64 // by the driver, as of since
	since, patience := time.Now(), still
	if r.cfg.qdisc.Shaped() {
		patience = stillShaped
	}
	for deadline := time.Now().Add(pressure); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		device, err := r.dev.Stats()
		if err != nil {
			r.t.Fatal(err)
		}
		// Three witnesses, any of which a driver may fail to tell.
		if r.tailDrops() > 0 || device.TxDropped > 0 || r.freedQuietly() {
			r.pressed = true
			return
		}
		stats, err := r.dev.QdiscStats()
		if err != nil {
			r.t.Fatal(err)
		}
		qdisc, counts := netdev.SumQdiscs(stats), r.counts()
		now := uint64(qdisc.Packets)
		if r.direct {
			now += counts.Accepted()
		}
		if now != taken {
			taken, since = now, time.Now()
		}
		waiting := qdisc.Qlen > 0 || r.direct && counts.Accepted() > 0
		if waiting && time.Since(since) > patience {
			r.pressed = true
			return
		}
	}
}

// tailDrops is how many FULL_RING drops the ledger has seen so far.
func (r *rig) tailDrops() (n uint64) {
	freed, err := r.ledger.Freed()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range freed {
		if f.Reason == contract.FullRing {
			n += f.Count
		}
	}
	return n
}

// freedQuietly says whether more skbs were freed as delivered than the consumer,
// which sleeps, has read. Of a consumer in the kernel that cannot be told yet: it
// consumes what is read later.
func (r *rig) freedQuietly() bool {
	consumed, err := r.ledger.Consumed()
	if err != nil {
		r.t.Fatal(err)
	}
	var n uint64
	for _, f := range consumed {
		n += f.Count
	}
	return !r.kernelConsumes && n > r.consumer.Received()
}

// race lets the consumer read, while the sources go on, until so many packets
// have arrived or none arrives any more.
func (r *rig) race(packets uint64) {
	step("let producers and consumers race", "")
	r.consumer.Resume()
	var idle traffic.Idle
	for r.consumer.Received() < packets && idle.Look(r.consumer) < progress {
		time.Sleep(time.Millisecond)
	}
}

// settled stops the sources, closes the books when nothing moves any more, and asks
// the stall oracle, whose error says why it does not know.
func (r *rig) settled() (*contract.Seen, *liveness.Stall, error) {
	r.t.Helper()
	step("stop the producers and close the books", "")
	for _, s := range r.sources {
		if err := s.Stop(); err != nil {
			r.t.Errorf("producer: %v", err)
		}
	}
	// The oracle may change the device, so the books come first; it finds
	// again what still stands in the qdisc.
	if err := liveness.Settle(r.oracle()); err != nil {
		r.t.Error(err)
	}
	seen := r.seen()
	step("ask the stall oracle", "")
	stall, err := liveness.Check(r.oracle())
	return seen, stall, err
}

// decide reports a verdict on each promise of the rig.
func (r *rig) decide() {
	r.t.Helper()
	seen, stall, err := r.settled()
	for _, p := range r.decides {
		switch p {
		case contract.NoTailDrop:
			outcome, why := r.contract.NoTailDrop(seen)
			r.verdict(p, outcome, why, seen.Books)
		case contract.NoqueueDrops:
			outcome, why := r.contract.NoqueueDrops(seen)
			r.verdict(p, outcome, why, seen.Books)
		case contract.NoStall:
			r.liveness(stall, err)
		}
	}
}

// seen closes the books and reads the kernel's log.
func (r *rig) seen() *contract.Seen {
	r.t.Helper()
	books, received, err := r.books()
	if len(books.Quiet) > 0 {
		// What was consumed may have been on its way to the consumer.
		time.Sleep(stage.Patience)
		books, received, err = r.books()
	}
	unknownPaths(r.t, books.Unknown)
	if err != nil || books.Duplicated+books.Reordered+books.Corrupted+books.Foreign > 0 {
		r.t.Logf("%v\n%v", books, received)
	}
	if err != nil {
		r.t.Error(err)
	}
	records, logErr := r.log.Read()
	if logErr != nil {
		r.t.Errorf("whether the kernel complained is not known: %v", logErr)
	}
	seen := &contract.Seen{
		Books: books, BooksErr: err, Pressed: r.pressed,
		Overlap: r.overlap, Backpressure: r.cfg.backpressure,
		AsksToQueue: kmsg.AsksToQueue(records, r.dev.Name()),
	}
	if r.stops != nil {
		n, err := r.stops.Count()
		if err != nil {
			r.t.Fatal(err)
		}
		seen.Stops = &n
	}
	return seen
}

// books closes the books.
func (r *rig) books() (*contract.Books, *traffic.Arrivals, error) {
	r.t.Helper()
	var known contract.Books
	r.counts().Enter(&known)
	for _, s := range r.senders {
		s.Counts().Enter(&known)
	}
	received := r.consumer.Arrivals()
	received.Enter(&known)
	books, err := r.ledger.Books(known)
	return books, received, err
}

// verdict reports what was found out about a promise, and fails the test
// unless it was kept.
func (r *rig) verdict(p contract.Promise, outcome contract.Outcome, why string, books *contract.Books) {
	r.t.Helper()
	report(r.t, contract.Verdict{Promise: p, Contract: r.contract, Outcome: outcome, Why: why, Books: books})
}

// report reports what was found out about a promise, and fails the test unless
// it was kept.
func report(t *testing.T, v contract.Verdict) {
	t.Helper()
	v.Test = t.Name()
	attribute(t, contract.AttrVerdict, v)
	text := fmt.Sprintf("%s: %s (contract %s): %s", v.Promise, v.Outcome, v.Contract, v.Why)
	if v.Books != nil {
		text += "\n" + v.Books.String()
	}
	switch v.Outcome {
	case contract.Kept, contract.NotRun:
		t.Log(text)
	default:
		t.Error(text)
	}
}

// unknownPaths reports ways to free a packet of which it is not known what counts
// them. The host shows each of them once.
func unknownPaths(t *testing.T, paths contract.Paths) {
	t.Helper()
	if len(paths) > 0 {
		attribute(t, contract.AttrUnknown, paths)
	}
}

// longest is how long a line may be that go tool test2json still takes for an
// attribute (cmd/internal/test2json: inBuffer), less a little.
const longest = 4000

func fits(t *testing.T, key string, data []byte) bool {
	return len(t.Name())+len(key)+len(data) <= longest
}

func attribute(t *testing.T, key string, value any) {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if !fits(t, key, data) {
		t.Errorf("an attribute that is too long to reach the host: %s %s", key, data)
	}
	t.Attr(key, string(data))
}
