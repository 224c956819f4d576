package ledger

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sys/unix"
)

// open makes a device and its ledger.
func open(t *testing.T, cfg tuntap.Config) (*tuntap.Device, *Ledger) {
	t.Helper()
	guesttest.Need(t, "makes network devices")
	dev, err := tuntap.Open(cfg)
	guesttest.NoError(t, err)
	t.Cleanup(func() { dev.Close() })
	l, err := Open(dev, tun.Driver, 0)
	guesttest.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return dev, l
}

func ringOf(slots int) *int { return &slots }

// send has each of producers send packets without pause.
func send(t *testing.T, dev *tuntap.Device, path traffic.Path, producers, packets int) contract.Books {
	t.Helper()
	link, err := traffic.LinkByName(dev.Name())
	if err != nil {
		t.Fatal(err)
	}
	var all traffic.Counts
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range producers {
		s, err := traffic.NewSender(link, traffic.SenderConfig{Path: path, Source: uint8(i), Flows: 8, SendBuffer: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		wg.Go(func() {
			runtime.LockOSThread()
			var set unix.CPUSet
			set.Set(i % runtime.NumCPU())
			unix.SchedSetaffinity(0, &set)
			for range packets {
				if outcome, err := s.Send(); err != nil {
					t.Error(err)
					return
				} else if outcome == traffic.Full {
					s.GiveUp()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.Add(s.Counts())
		})
	}
	wg.Wait()
	return contract.Books{Offered: all.Offered, Unallocated: all.Unallocated, Refused: all.Refused}
}

// drain reads every queue empty, again and again until nothing has come for
// quiet.
func drain(t *testing.T, dev *tuntap.Device, quiet time.Duration) uint64 {
	t.Helper()
	var n uint64
	buf := make([]byte, 2048)
	for last := time.Now(); time.Since(last) < quiet; {
		for _, fd := range dev.Queues() {
			switch _, err := unix.Read(fd, buf); err {
			case nil:
				n++
				last = time.Now()
			case unix.EAGAIN:
			default:
				t.Fatal(err)
			}
		}
	}
	return n
}

func TestTailDropsAreExactAcrossCPUs(t *testing.T) {
	for _, path := range []traffic.Path{traffic.PacketSocket, traffic.PacketBypass, traffic.UDPSocket} {
		t.Run(path.String(), func(t *testing.T) {
			dev, l := open(t, tuntap.Config{Mode: tuntap.TAP, TxQueueLen: ringOf(16), Qdisc: netdev.Qdisc{Kind: netdev.Noqueue}})
			start := time.Now()
			known := send(t, dev, path, 4, 10000)
			took := time.Since(start)
			known.Received = drain(t, dev, 100*time.Millisecond)
			books, err := l.Books(known)
			if err != nil {
				t.Fatalf("%v\n%v", err, books)
			}
			t.Logf("%.0f kpps: %v", float64(books.Offered)/took.Seconds()/1000, books)
			if want := books.Offered - 16; books.DropsFor(contract.FullRing) != want || books.DeviceTxDropped != want || books.Received != 16 {
				t.Errorf("offered %d to a ring of 16: want %d tail drops and tx_dropped, have %d and %d", books.Offered, want, books.DropsFor(contract.FullRing), books.DeviceTxDropped)
			}
			if l.format.hasReason && !strings.Contains(books.String(), "FULL_RING@tun_net_xmit") {
				t.Errorf("tail drops not named: %v", books)
			}
		})
	}
}

func TestTailDropsOfPktgenAreExactAcrossCPUs(t *testing.T) {
	dev, l := open(t, tuntap.Config{Mode: tuntap.TAP, TxQueueLen: ringOf(16)})
	link, err := traffic.LinkByName(dev.Name())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	pktgen, err := traffic.StartPktgen(link, traffic.PktgenConfig{CPUs: []int{0, 1, 2, 3}})
	if missing := (*kernelfeature.MissingError)(nil); errors.As(err, &missing) {
		t.Skipf("not run: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	if err := pktgen.Stop(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	counts := pktgen.Counts()
	known := contract.Books{Offered: counts.Offered, Unallocated: counts.Unallocated, Refused: counts.Refused}
	known.Received = drain(t, dev, 100*time.Millisecond)
	books, err := l.Books(known)
	if err != nil {
		t.Errorf("%v\n%v", err, books)
	}
	t.Logf("%.0f kpps: %v", float64(books.Offered)/took.Seconds()/1000, books)
	if books.Offered < 1000 {
		t.Skip("not run: this kernel stops the queue under pktgen, so there is hardly a drop to count")
	}
}

func TestBooksBalanceWithEachQdisc(t *testing.T) {
	qdiscs := []netdev.Qdisc{
		{Kind: netdev.Noqueue},
		{Kind: netdev.PfifoFast},
		{Kind: netdev.Pfifo, Limit: 10},
		{Kind: netdev.FQ},
		{Kind: netdev.FQCodel, Limit: 10},
		{Kind: netdev.MQ},
		{Kind: netdev.MQ, Leaf: &netdev.Qdisc{Kind: netdev.TBF, Rate: 100000, Burst: 2000, Limit: 5000}},
		{Kind: netdev.TBF, Rate: 100000, Burst: 2000, Limit: 5000},
		{Kind: netdev.Netem, Delay: 20 * time.Millisecond, Limit: 50},
	}
	for _, qdisc := range qdiscs {
		t.Run(qdisc.String(), func(t *testing.T) {
			cfg := tuntap.Config{Mode: tuntap.TUN, TxQueueLen: ringOf(16), Qdisc: qdisc}
			if qdisc.Kind == netdev.MQ {
				cfg.Queues = 4
			}
			dev, l := open(t, cfg)
			known := send(t, dev, traffic.PacketSocket, 4, 2000)

			// What is still queued, then what has arrived in the end.
			held := known
			held.LeftRing = 16
			if cfg.Queues != 0 {
				held.LeftRing = 16 * uint64(cfg.Queues)
			}
			if !qdisc.Shaped() {
				books, err := l.Books(held)
				t.Logf("full: %v; qdisc drops %d, requeues %d", books, books.QdiscDropped, books.QdiscRequeues)
				if err != nil {
					t.Error(err)
				}
			}
			known.Received = drain(t, dev, 300*time.Millisecond)
			books, err := l.Books(known)
			t.Logf("drained: %v; qdisc drops %d, requeues %d", books, books.QdiscDropped, books.QdiscRequeues)
			if err != nil {
				t.Error(err)
			}
			if qdisc.Shaped() && books.QdiscDropped == 0 {
				t.Error("no drop by a qdisc with a low limit: nothing was tried")
			}
		})
	}
}

func TestOtherDevicesAreNotCounted(t *testing.T) {
	quiet, l := open(t, tuntap.Config{Mode: tuntap.TUN})
	loud, ledgerOfLoud := open(t, tuntap.Config{Mode: tuntap.TUN, TxQueueLen: ringOf(1), Qdisc: netdev.Qdisc{Kind: netdev.Noqueue}})
	known := send(t, loud, traffic.PacketSocket, 4, 1000)
	known.Received = drain(t, loud, 50*time.Millisecond)
	if books, err := ledgerOfLoud.Books(known); err != nil || books.Dropped() != 3999 {
		t.Errorf("%v: %v", books, err)
	}
	if books, err := l.Books(contract.Books{}); err != nil || books.Dropped() != 0 {
		t.Errorf("%s has %v: %v", quiet.Name(), books, err)
	}
}

func TestLossesThatNoCounterShows(t *testing.T) {
	for _, test := range []struct {
		name  string
		qdisc netdev.Qdisc
		lose  func(*tuntap.Device) error
	}{
		{"detach", netdev.Qdisc{}, func(d *tuntap.Device) error { return d.Detach(0) }},
		{"resize", netdev.Qdisc{}, func(d *tuntap.Device) error { return d.SetTxQueueLen(3) }},
		{"link down", netdev.Qdisc{Kind: netdev.Netem, Delay: 10 * time.Second}, func(d *tuntap.Device) error { return d.SetUp(false) }},
		{"qdisc replaced", netdev.Qdisc{Kind: netdev.TBF, Rate: 1000, Burst: 2000, Limit: 50000}, func(d *tuntap.Device) error {
			return d.SetQdisc(netdev.Qdisc{Kind: netdev.FQ})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dev, l := open(t, tuntap.Config{Mode: tuntap.TUN, MultiQueue: true, TxQueueLen: ringOf(100), Qdisc: test.qdisc})
			l.Reconfigured()
			known := send(t, dev, traffic.PacketSocket, 2, 40)
			if err := test.lose(dev); err != nil {
				t.Fatal(err)
			}
			if test.name != "detach" {
				known.Received = drain(t, dev, 50*time.Millisecond)
			}
			books, err := l.Books(known)
			t.Logf("%v; tx_dropped %d", books, books.DeviceTxDropped)
			if err != nil {
				t.Error(err)
			}
			if books.Dropped() == 0 || books.DeviceTxDropped != 0 {
				t.Errorf("want losses that tx_dropped does not show")
			}
		})
	}
}

func TestDeliveriesAreConsumedByTheReader(t *testing.T) {
	dev, l := open(t, tuntap.Config{Mode: tuntap.TUN})
	known := send(t, dev, traffic.PacketSocket, 2, 100)
	known.Received = drain(t, dev, 50*time.Millisecond)
	if _, err := l.Books(known); err != nil {
		t.Error(err)
	}
	consumed, err := l.Consumed()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(consumed)
	if len(consumed) != 1 || consumed[0].Count != 200 {
		t.Errorf("200 packets read: want 200 skbs consumed by one function")
	}
}

// TestClonesAreNoPackets: a packet socket that listens to the device gets a clone
// of each packet.
func TestClonesAreNoPackets(t *testing.T) {
	dev, l := open(t, tuntap.Config{Mode: tuntap.TUN})
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // in network order
	tap, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, all)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tap)
	if err := unix.Bind(tap, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Ifindex()}); err != nil {
		t.Fatal(err)
	}
	known := send(t, dev, traffic.PacketSocket, 1, 100)
	known.Received = drain(t, dev, 50*time.Millisecond)
	clones, buf := 0, make([]byte, 2048)
	for {
		if _, _, err := unix.Recvfrom(tap, buf, 0); err != nil {
			break
		}
		clones++
	}
	books, err := l.Books(known)
	consumed, consumedErr := l.Consumed()
	t.Log(clones, consumed, consumedErr)
	if err != nil || len(books.Quiet) > 0 || clones != 100 {
		t.Errorf("100 packets and 100 clones were received: have %d clones, %v, %v", clones, books, err)
	}
	known.Offered++
	if books, err := l.Books(known); err == nil || len(books.Quiet) > 0 {
		t.Errorf("one packet is nowhere, and no clone explains that: have %v, %v", books, err)
	}
}

// TestInterruptedCounts: interrupts free skbs of one device while their CPU counts
// those of another, and all are counted. Now and then one comes in the few instructions
// in which a program is not at work yet, or not any more; then the ledger says that some
// were not counted, and never a number that is wrong.
func TestInterruptedCounts(t *testing.T) {
	const ring, rounds = 500, 100
	// What comes out of the delay finds a ring without room.
	late, _ := open(t, tuntap.Config{Mode: tuntap.TAP, TxQueueLen: ringOf(1), Qdisc: netdev.Qdisc{Kind: netdev.Netem, Delay: 2 * time.Millisecond, Limit: 10000}})
	purged, l := open(t, tuntap.Config{Mode: tuntap.TAP, MultiQueue: true, TxQueueLen: ringOf(ring), Qdisc: netdev.Qdisc{Kind: netdev.Noqueue}})
	runtime.LockOSThread() // and not unlocked: the thread ends with the test
	var set unix.CPUSet
	set.Set(1)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	var senders [2]*traffic.Sender
	for i, dev := range []*tuntap.Device{purged, late} {
		link, err := traffic.LinkByName(dev.Name())
		if err != nil {
			t.Fatal(err)
		}
		if senders[i], err = traffic.NewSender(link, traffic.SenderConfig{Path: traffic.PacketSocket, SendBuffer: 64 << 20}); err != nil {
			t.Fatal(err)
		}
		defer senders[i].Close()
	}
	const attempts = 5
	for attempt := range attempts {
		before := senders[0].Counts().Offered
		guesttest.NoError(t, l.Reset())
		l.Reconfigured()
		for range rounds {
			for i := range ring {
				for _, s := range senders[:1+i%2] {
					if _, err := s.Send(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := purged.Detach(0); err != nil {
				t.Fatal(err)
			}
			if err := purged.Attach(0); err != nil {
				t.Fatal(err)
			}
		}
		freed, err := l.Freed()
		if err != nil && attempt < attempts-1 {
			t.Log(err)
			continue
		}
		guesttest.NoError(t, err)
		var n uint64
		for _, f := range freed {
			n += f.Count
		}
		if want := senders[0].Counts().Offered - before; n != want {
			t.Errorf("%d skbs were counted, want %d: %v", n, want, freed)
		}
		break
	}
	if missed, err := l.freed.misses(); err != nil || missed == 0 {
		t.Errorf("no interrupt freed any: nothing was tried (%v)", err)
	}
}

func TestABookWithAHoleDoesNotBalance(t *testing.T) {
	dev, l := open(t, tuntap.Config{Mode: tuntap.TUN})
	known := send(t, dev, traffic.PacketSocket, 1, 10)
	known.Received = drain(t, dev, 50*time.Millisecond)
	known.Offered++
	if books, err := l.Books(known); err == nil {
		t.Errorf("one packet is gone without trace, and the books balance: %v", books)
	}
}

func TestWhatIsFreedQuietlyIsNamed(t *testing.T) {
	dev, l := open(t, tuntap.Config{Mode: tuntap.TUN})
	known := send(t, dev, traffic.PacketSocket, 1, 10)
	// Of what nobody has received, the reader has freed one as if somebody had.
	known.Received = drain(t, dev, 50*time.Millisecond) - 1
	books, err := l.Books(known)
	t.Log(books)
	if err != nil || books.FreedQuietly() != 1 {
		t.Errorf("one was freed quietly: have %v, %v", books, err)
	}
	tp, err := consumeTracepoint()
	if err != nil {
		t.Fatal(err)
	}
	for key := range books.Quiet {
		if named := strings.HasPrefix(key, "consume_skb@tun_"); named != tp.hasLocation {
			t.Errorf("freed by %s", key)
		}
	}
}
