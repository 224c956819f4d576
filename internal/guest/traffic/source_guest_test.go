package traffic

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sys/unix"
)

// trickle lets a packet through every second: a sender soon finds its send
// buffer full, as it does when the queue has stalled.
var trickle = netdev.Qdisc{Kind: netdev.TBF, Rate: 100, Burst: 2000, Limit: 1 << 30}

func TestAProducerWaitsForRoomAndCanBeStopped(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	for _, path := range []Path{PacketSocket, UDPSocket} {
		t.Run(path.String(), func(t *testing.T) {
			d, link := open(t, tuntap.Config{Mode: tuntap.TAP, Qdisc: trickle})
			consume(t, d, link, ConsumerConfig{})
			p, err := StartProducer(link, ProducerConfig{SenderConfig: SenderConfig{Path: path}})
			guesttest.NoError(t, err)
			time.Sleep(300 * time.Millisecond)
			before := p.Counts()
			time.Sleep(100 * time.Millisecond)
			began := time.Now()
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("it took %v to stop", took)
			}
			counts := p.Counts()
			if before.Offered < 100 || counts.Unallocated != 1 || counts.Refused != 0 || counts.Offered > before.Offered+20 {
				t.Errorf("%+v, then stopped: %+v; want it to stand still, and to give up one packet", before, counts)
			}
			stats, err := d.QdiscStats()
			if err != nil || uint64(stats[0].Qlen)+counts.Unallocated > counts.Offered || stats[0].Qlen < 100 {
				t.Errorf("%+v in the qdisc, %v; want what was offered, less the first few", stats, err)
			}
		})
	}
}

func TestAProducerThatDoesNotWaitCountsWhatIsNotAllocated(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	d, link := open(t, tuntap.Config{Mode: tuntap.TAP, Qdisc: trickle})
	consume(t, d, link, ConsumerConfig{})
	p, err := StartProducer(link, ProducerConfig{NoWait: true, Count: 2000})
	guesttest.NoError(t, err)
	counts := await(t, p)
	if counts.Offered != 2000 || counts.Unallocated < 1000 || counts.Refused != 0 {
		t.Errorf("%+v, want 2000 offered and most of them unallocated", counts)
	}
}

func TestSendBufferFitsWhatItIsSetTo(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	_, link := open(t, tuntap.Config{Mode: tuntap.TAP, Qdisc: trickle})
	var fits []uint64
	for _, size := range []int{0, 1 << 20, 1 << 23} {
		s := newSender(t, link, SenderConfig{SendBuffer: size})
		got, err := Saturate(s, 100000)
		if err != nil || got.Outcome != Full {
			t.Fatalf("send buffer %d: %+v, %v; want Full", size, got, err)
		}
		fits = append(fits, got.Sent)
	}
	t.Log(fits)
	if fits[1] < 3*fits[0] || fits[2] < 7*fits[1] {
		t.Errorf("buffers of the default, 1 MiB and 8 MiB fit %v packets", fits)
	}
}

func TestADownDeviceIsNamed(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	for _, path := range []Path{PacketSocket, PacketBypass, UDPSocket} {
		d, link := open(t, tuntap.Config{Mode: tuntap.TUN})
		s := newSender(t, link, SenderConfig{Path: path})
		if err := d.SetUp(false); err != nil {
			t.Fatal(err)
		}
		outcome, err := s.Send()
		if outcome != Unsent || !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("%v: %v, %v; want unsent, the network is down or unreachable", path, outcome, err)
		}
		if s.Counts() != (Counts{Offered: 1, Unallocated: 1}) {
			t.Errorf("%v: %+v, want 1 unallocated", path, s.Counts())
		}
		t.Log(err)
	}
}

func TestIntervalSetsTheRate(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	d, link := open(t, tuntap.Config{Mode: tuntap.TAP, Qdisc: netdev.Qdisc{Kind: netdev.PfifoFast}})
	consume(t, d, link, ConsumerConfig{})
	began := time.Now()
	p, err := StartProducer(link, ProducerConfig{Count: 50, Interval: 4 * time.Millisecond})
	guesttest.NoError(t, err)
	await(t, p)
	if took := time.Since(began); took < 190*time.Millisecond {
		t.Errorf("50 packets at 4ms each took %v", took)
	}
	began = time.Now()
	g, err := StartPktgen(link, PktgenConfig{CPUs: []int{1}, Count: 50, Interval: 4 * time.Millisecond})
	guesttest.NoError(t, err)
	await(t, g)
	if took := time.Since(began); took < 190*time.Millisecond {
		t.Errorf("pktgen: 50 packets at 4ms each took %v", took)
	}
}

// With the consumer paused every further packet is refused, or none is taken
// where the driver stops its queue: pktgen never reaches its count, sends until
// it is stopped, and each packet is accounted for.
func TestPktgenIsAccountedForAtAFullRing(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	length := 16
	for _, c := range []struct {
		qdisc netdev.Qdisc
		queue bool
	}{
		{netdev.Qdisc{Kind: netdev.Noqueue}, false},
		{netdev.Qdisc{Kind: netdev.Noqueue}, true},
		{netdev.Qdisc{Kind: netdev.Pfifo}, false},
	} {
		t.Run(fmt.Sprintf("%v/queue_xmit %v", c.qdisc, c.queue), func(t *testing.T) {
			d, link := open(t, tuntap.Config{Mode: tuntap.TAP, TxQueueLen: &length, Qdisc: c.qdisc})
			reader := consume(t, d, link, ConsumerConfig{Paused: true})
			p, err := StartPktgen(link, PktgenConfig{Qdisc: c.queue, CPUs: []int{2}, Count: 1000})
			guesttest.NoError(t, err)
			for p.Counts().Accepted() < 16 {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(20 * time.Millisecond)
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
			counts := p.Counts()
			if err := reader.Drain(5 * time.Second); err != nil {
				t.Error(err)
			}
			stats, err := d.Stats()
			arrivals := reader.Arrivals()
			t.Logf("%+v, device %+v, %v", counts, stats, arrivals)
			if err != nil || counts.Accepted() != 16 || arrivals.Received != 16 || counts.Refused == 0 {
				t.Errorf("%v; want 16 accepted and received, the rest refused", err)
			}
			// One more than the device dropped is what pktgen had in its
			// hand before a stopped queue.
			if held := counts.Refused - stats.TxDropped; held > 1 || held == 1 && c.qdisc.Kind == netdev.Noqueue {
				t.Errorf("%d refused, but the device dropped %d", counts.Refused, stats.TxDropped)
			}
		})
	}
}

func TestPktgenCanBeStoppedAtOnce(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	d, link := open(t, tuntap.Config{Mode: tuntap.TAP, Qdisc: netdev.Qdisc{Kind: netdev.PfifoFast}})
	consume(t, d, link, ConsumerConfig{Epoll: true})
	for range 3 {
		p, err := StartPktgen(link, PktgenConfig{CPUs: []int{0, 3}, Interval: time.Millisecond})
		guesttest.NoError(t, err)
		stopped := make(chan error)
		go func() { stopped <- p.Stop() }()
		select {
		case err := <-stopped:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("Stop still waits: %+v", p.Counts())
		}
	}
}
