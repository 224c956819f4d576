package traffic

import (
	"fmt"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
)

func open(t *testing.T, cfg tuntap.Config) (*tuntap.Device, *Link) {
	t.Helper()
	d, err := tuntap.Open(cfg)
	guesttest.NoError(t, err)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	link, err := LinkByName(d.Name())
	if err != nil {
		t.Fatal(err)
	}
	return d, link
}

func consume(t *testing.T, d *tuntap.Device, link *Link, cfg ConsumerConfig) *Consumer {
	t.Helper()
	c, err := Consume(link, d.Queues(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func newSender(t *testing.T, link *Link, cfg SenderConfig) *Sender {
	t.Helper()
	s, err := NewSender(link, cfg)
	guesttest.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// await waits for a source to end, and fails the test if it does not.
func await(t *testing.T, s Source) Counts {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(30 * time.Second):
		t.Errorf("it still sends after 30s: %+v", s.Counts())
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return s.Counts()
}

// starter starts one kind of source; pktgen's threads are sources of their own.
type starter struct {
	name  string
	start func(link *Link, count uint64, threads int) ([]Source, error)
}

func starters() []starter {
	var all []starter
	for _, path := range []Path{PacketSocket, PacketBypass, UDPSocket} {
		all = append(all, starter{path.String(), func(link *Link, count uint64, threads int) ([]Source, error) {
			var sources []Source
			for i := range threads {
				p, err := StartProducer(link, ProducerConfig{SenderConfig: SenderConfig{Path: path, Source: uint8(i), Flows: 8}, Count: count, CPU: &i})
				if err != nil {
					return sources, err
				}
				sources = append(sources, p)
			}
			return sources, nil
		}})
	}
	for name, qdisc := range map[string]bool{"pktgen start_xmit": false, "pktgen queue_xmit": true} {
		all = append(all, starter{name, func(link *Link, count uint64, threads int) ([]Source, error) {
			p, err := StartPktgen(link, PktgenConfig{Qdisc: qdisc, CPUs: []int{0, 1, 2, 3}[:threads], Flows: 8, Count: count})
			return []Source{p}, err
		}})
	}
	return all
}

// Every kind of source through every kind of device to every kind of reader:
// what was accepted and not dropped by the device arrives, each once, intact
// and in order.
func TestEverySourceReachesEveryReader(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	const count = 2000
	length := 4 * count
	for _, from := range starters() {
		for _, mode := range []tuntap.Mode{tuntap.TUN, tuntap.TAP} {
			if mode == tuntap.TUN && from.name[:3] == "pkt" {
				continue // see TestPktgenSaysThatItCannotUseTun
			}
			for _, to := range []ConsumerConfig{{}, {Epoll: true}, {Readers: 3}, {Readers: 3, Epoll: true, CPUs: []int{3}}} {
				for _, queues := range []int{1, 4} {
					if queues > 1 && (to.Readers > 1) != to.Epoll {
						continue // tells nothing more
					}
					t.Run(fmt.Sprintf("%s/%v/%d queues/%d readers epoll %v", from.name, mode, queues, max(to.Readers, 1), to.Epoll), func(t *testing.T) {
						d, link := open(t, tuntap.Config{Mode: mode, Queues: queues, TxQueueLen: &length, Qdisc: netdev.Qdisc{Kind: netdev.PfifoFast}})
						c := consume(t, d, link, to)
						began := time.Now()
						sources, err := from.start(link, count, 2)
						guesttest.NoError(t, err)
						var counts Counts
						for _, s := range sources {
							counts.Add(await(t, s))
						}
						took := time.Since(began)
						if err := c.Drain(10 * time.Second); err != nil {
							t.Error(err)
						}
						arrivals := c.Arrivals()
						if counts != (Counts{Offered: 2 * count}) || arrivals.Received != 2*count || arrivals.Duplicated+arrivals.Reordered+arrivals.Corrupted+arrivals.Foreign != 0 {
							t.Errorf("%+v; %v", counts, arrivals)
						}
						first := uint64(0)
						if from.name[:3] == "pkt" {
							first = 1
						}
						for id := range uint8(2) {
							if missing := arrivals.Missing(id, first, first+count-1, 5); missing != nil {
								t.Errorf("source %d: missing %v", id, missing)
							}
						}
						t.Logf("%.0f kpps, queues %v", 2*count/took.Seconds()/1000, arrivals.Queues)
					})
				}
			}
		}
	}
}

func TestPktgenSaysThatItCannotUseTun(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	_, link := open(t, tuntap.Config{Mode: tuntap.TUN})
	p, err := StartPktgen(link, PktgenConfig{CPUs: []int{0}})
	if err == nil {
		p.Stop()
		t.Fatal("it started")
	}
	t.Log(err)
}

// A full ring is seen by each kind of sender as the kernel tells it.
func TestSaturate(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	length := 100
	for _, c := range []struct {
		qdisc  netdev.Qdisc
		path   Path
		sndbuf int
		want   []Outcome
	}{
		{netdev.Qdisc{Kind: netdev.Noqueue}, PacketSocket, 0, []Outcome{Refused}},
		{netdev.Qdisc{Kind: netdev.Noqueue}, UDPSocket, 0, []Outcome{Refused}},
		// A bypass is refused too while the queue is stopped, but a stopped
		// queue needs a qdisc.
		{netdev.Qdisc{Kind: netdev.Noqueue}, PacketBypass, 0, []Outcome{Refused}},
		// Sent with a tx_dropped that moves on a kernel that drops, Full on
		// one that stops the queue.
		{netdev.Qdisc{Kind: netdev.Pfifo, Limit: 5000}, PacketSocket, 0, []Outcome{Sent, Full}},
		// Refused by the qdisc, where the queue is stopped.
		{netdev.Qdisc{Kind: netdev.Pfifo, Limit: 50}, PacketSocket, 1 << 24, []Outcome{Sent, Refused}},
		{netdev.Qdisc{Kind: netdev.Pfifo, Limit: 50}, UDPSocket, 1 << 24, []Outcome{Sent, Refused}},
	} {
		t.Run(fmt.Sprintf("%v/%v", c.qdisc, c.path), func(t *testing.T) {
			d, link := open(t, tuntap.Config{Mode: tuntap.TAP, TxQueueLen: &length, Qdisc: c.qdisc})
			reader := consume(t, d, link, ConsumerConfig{Paused: true})
			s := newSender(t, link, SenderConfig{Path: c.path, SendBuffer: c.sndbuf})
			got, err := Saturate(s, 10000)
			if err != nil {
				t.Fatal(err)
			}
			known := false
			for _, want := range c.want {
				known = known || got.Outcome == want
			}
			if !known || got.Sent < uint64(length) {
				t.Errorf("%+v, want one of %v after at least %d", got, c.want, length)
			}
			if err := reader.Drain(5 * time.Second); err != nil {
				t.Error(err)
			}
			stats, err := d.Stats()
			if err != nil {
				t.Fatal(err)
			}
			arrivals := reader.Arrivals()
			t.Logf("%+v, %+v, device %+v, %v", got, s.Counts(), stats, arrivals)
			if c.qdisc.Kind == netdev.Noqueue && (arrivals.Received != uint64(length) || stats.TxDropped != s.Counts().Refused) {
				t.Errorf("a ring of %d gave %d packets; %d refused, %d dropped by the device", length, arrivals.Received, s.Counts().Refused, stats.TxDropped)
			}
		})
	}
}
