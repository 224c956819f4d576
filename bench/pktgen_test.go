package bench

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/ledger"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
)

// TestPktgen has the kernel's generator send as fast as it can, as its samples 01
// and 02 do (samples/pktgen), and a consumer read as fast as it can.
func TestPktgen(t *testing.T) {
	for _, g := range generations() {
		t.Run(g.String(), func(t *testing.T) {
			// The first is there to warm up.
			for round := range setting.rounds + 1 {
				s := cost.Sample{Workload: "Pktgen/" + g.String()}
				good := ended(&s, g.run(&s, false))
				if round > 0 || !good {
					sample(t, s)
				}
				if !good {
					return
				}
			}
		})
	}
}

// generation is one way to generate.
type generation struct {
	threads, txqs int
	via           string // "tap" or "vhost"
	// qdisc: through it (pktgen's queue_xmit); else past it, though it is there
	// (start_xmit).
	qdisc bool
}

func (g generation) String() string {
	path := "start_xmit"
	if g.qdisc {
		path = "queue_xmit"
	}
	return fmt.Sprintf("threads=%d/txqs=%d/via=%s/%s", g.threads, g.txqs, g.via, path)
}

func generations() (all []generation) {
	for _, via := range []string{"tap", "vhost"} {
		all = append(all, generation{1, 1, via, false})
		if !setting.instructions { // else there is one CPU
			all = append(all, generation{2, 1, via, false}, generation{2, 2, via, false})
		}
		all = append(all, generation{1, 1, via, true})
	}
	return all
}

const (
	// generated are the packets of each thread with the ruler of instructions, and
	// generating the time with that of time.
	generated  = 20000
	generating = 300 * time.Millisecond
	// stalled is for how long nothing may arrive while pktgen sends.
	stalled = 3 * time.Second
	// pause is what a consumer may take for a few packets on a busy host.
	pause = 150 * time.Millisecond
)

func (g generation) run(s *cost.Sample, withLedger bool) (err error) {
	mode := "tap"
	if g.via == "vhost" {
		mode = "vhost"
	}
	made, err := tun.Driver.Make(driver.Shape{
		Mode: mode, TxQueues: g.txqs, TxQueueLen: 500, Qdisc: g.rootQdisc(), Backpressure: setting.backpressure,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, made.Close()) }()
	link, err := traffic.LinkByName(made.Link().Name())
	if err != nil {
		return err
	}
	var led *ledger.Ledger
	if withLedger {
		if led, err = ledger.Open(made.Link(), tun.Driver, 0); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, led.Close()) }()
	}
	before, err := countsOf(made.Link())
	if err != nil {
		return err
	}
	var readers traffic.ConsumerConfig
	for _, m := range tun.Driver.Modes {
		if m.Name == mode {
			readers = m.Consumer
		}
	}
	consumer, err := traffic.Consume(link, made.Queues(), readers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Stop()) }()

	cfg := traffic.PktgenConfig{Qdisc: g.qdisc, FirstSource: 1, Bytes: 46, TxqOfCPU: g.txqs > 1}
	for cpu := range g.threads {
		cfg.CPUs = append(cfg.CPUs, cpu)
	}
	if setting.instructions {
		cfg.Count = generated
	}
	kernel, err := readActivity()
	if err != nil {
		return err
	}
	watch, err := startWatch()
	if err != nil {
		return err
	}
	began := time.Now()
	source, err := traffic.StartPktgen(link, cfg)
	if err != nil {
		return err
	}
	stall := await(source, consumer, began)
	if err := source.Stop(); err != nil {
		return err
	}
	took := time.Since(began)
	if drained := consumer.Drain(10 * time.Second); drained != nil {
		return drained
	}
	window, err := watch.stop()
	if err != nil {
		return err
	}
	after, err := readActivity()
	if err != nil {
		return err
	}
	var account contract.Books
	source.Counts().Enter(&account)
	consumer.Arrivals().Enter(&account)
	books, err := g.books(account, made.Link(), before, led)
	s.Books = books
	switch {
	case stall != "":
		return errors.New(stall)
	case err != nil:
		return err
	case books.Received == 0:
		return errors.New("no packet has arrived")
	}
	held := books.Drops[heldBack]
	lost := books.Dropped() - held
	s.Values = map[string]float64{}
	if setting.instructions {
		s.Window = window
		s.Window.Unit, s.Window.Per = "instr/pkt", float64(books.Received)
	} else {
		seconds := took.Seconds()
		s.Values["offered-pps"] = float64(books.Offered-held) / seconds
		s.Values["tx-pps"] = float64(books.Offered-held-lost) / seconds
		s.Values["rx-pps"] = float64(books.Received) / seconds
		s.Values["lost-pps"] = float64(lost) / seconds
	}
	after.per(books.Received, kernel, s.Values)
	s.Values["requeues/pkt"] = float64(books.QdiscRequeues) / float64(books.Received)
	return nil
}

// rootQdisc is what a host has by default: fq_codel, or one for each txq.
func (g generation) rootQdisc() netdev.Qdisc {
	leaf := netdev.Qdisc{Kind: netdev.FQCodel}
	if g.txqs == 1 {
		return leaf
	}
	return netdev.Qdisc{Kind: netdev.MQ, Leaf: &leaf}
}

// await waits for pktgen, or until nothing arrives any more: then it says so.
func await(source *traffic.Pktgen, consumer *traffic.Consumer, began time.Time) (stall string) {
	var idle traffic.Idle
	for {
		select {
		case <-source.Done():
			return ""
		case <-time.After(10 * time.Millisecond):
		}
		long := idle.Look(consumer)
		// A moment without a packet at the end may be the first of a stall.
		if time.Since(began) > generating && long < pause && !setting.instructions {
			return ""
		}
		if long > stalled {
			return fmt.Sprintf("%s %v, while pktgen sends: it has sent %d packets, and %d have arrived", cost.Silent, long.Round(time.Second), source.Counts().Accepted(), consumer.Received())
		}
	}
}

// heldBack is where a packet of each of pktgen's threads may be freed: one that it had
// made, and nobody had taken yet, when it was stopped. No counter counts those.
const heldBack = "pktgen_stop_device"

// counts are the counters of a device that say what became of its packets.
type counts struct{ txDropped, qdiscDropped, requeues, qlen uint64 }

func countsOf(dev *netdev.Device) (counts, error) {
	device, err := dev.Stats()
	if err != nil {
		return counts{}, err
	}
	qdiscs, err := dev.QdiscStats()
	if err != nil {
		return counts{}, err
	}
	sum := netdev.SumQdiscs(qdiscs)
	return counts{device.TxDropped, uint64(sum.Drops), uint64(sum.Requeues), uint64(sum.Qlen)}, nil
}

// books closes the account of what was offered and has arrived, by the ledger if there
// is one, else by the device's and the qdisc's counters. The error says that it does not
// balance.
func (g generation) books(books contract.Books, dev *netdev.Device, before counts, led *ledger.Ledger) (*contract.Books, error) {
	if led != nil {
		return led.Books(books)
	}
	now, err := countsOf(dev)
	if err != nil {
		return &books, err
	}
	books.DeviceTxDropped, books.QdiscDropped = now.txDropped-before.txDropped, now.qdiscDropped-before.qdiscDropped
	books.QdiscRequeues, books.LeftQdisc = now.requeues-before.requeues, now.qlen
	books.Drops = make(map[string]uint64)
	for counter, n := range map[contract.Counter]uint64{contract.TxDropped: books.DeviceTxDropped, contract.QdiscDrops: books.QdiscDropped} {
		if n > 0 {
			books.Drops[string(counter)] = n
		}
	}
	missing := int64(books.Offered) - int64(books.Received+books.Dropped()+books.LeftQdisc)
	if missing > 0 && missing <= int64(g.threads) {
		books.Drops[heldBack] = uint64(missing)
	}
	return &books, books.Balance()
}
