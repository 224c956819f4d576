package vhost_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/ledger"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"github.com/ringproof/ringproof/internal/guest/vhost"
	"golang.org/x/sys/unix"
)

// open makes a tap device for vhost-net.
func open(t *testing.T, queues, length int, qdisc netdev.Kind) (*tuntap.Device, *traffic.Link) {
	t.Helper()
	guesttest.Need(t, "makes network devices")
	// With IFF_MULTI_QUEUE a queue can be detached.
	d, err := tuntap.Open(tuntap.Config{Mode: tuntap.TAP, Queues: queues, MultiQueue: true, TxQueueLen: &length, Flags: unix.IFF_VNET_HDR, Qdisc: netdev.Qdisc{Kind: qdisc}})
	guesttest.NoError(t, err)
	t.Cleanup(func() { guesttest.NoError(t, d.Close()) })
	link, err := traffic.LinkByName(d.Name())
	guesttest.NoError(t, err)
	return d, link
}

func consume(t *testing.T, d *tuntap.Device, link *traffic.Link, cfg traffic.ConsumerConfig) *traffic.Consumer {
	t.Helper()
	c, err := traffic.Consume(link, d.Queues(), cfg)
	guesttest.NoError(t, err)
	t.Cleanup(func() { guesttest.NoError(t, c.Stop()) })
	return c
}

func sender(t *testing.T, link *traffic.Link, cfg traffic.SenderConfig) *traffic.Sender {
	t.Helper()
	s, err := traffic.NewSender(link, cfg)
	guesttest.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func send(t *testing.T, s *traffic.Sender, packets int) {
	t.Helper()
	for range packets {
		if outcome, err := s.Send(); outcome != traffic.Sent {
			t.Fatalf("sent one: %v, %v", outcome, err)
		}
	}
}

// cards is each kind of network card.
func cards() map[string]vhost.Config {
	return map[string]vhost.Config{
		"plain":                {},
		"polled":               {Polled: true},
		"event idx":            {EventIdx: true},
		"mergeable":            {Mergeable: true},
		"mergeable, event idx": {Mergeable: true, EventIdx: true},
		"mergeable, polled":    {Mergeable: true, EventIdx: true, Polled: true},
		"2 buffers":            {Size: 2, EventIdx: true},
	}
}

// Everything that is sent arrives once, intact and in order, in packets that
// take one buffer and in packets that take a dozen, past several ends of the
// virtqueue.
func TestEverythingArrives(t *testing.T) {
	const count = 3000
	for name, card := range cards() {
		for _, queues := range []int{1, 4} {
			for _, readers := range []int{1, 3} {
				if queues > 1 && readers > 1 {
					continue // tells nothing more
				}
				t.Run(fmt.Sprintf("%s/%d queues/%d readers", name, queues, readers), func(t *testing.T) {
					d, link := open(t, queues, 4*count, netdev.PfifoFast)
					cfg := tun.ByVhost(card)
					cfg.Readers = readers
					c := consume(t, d, link, cfg)
					began := time.Now()
					var sources []traffic.Source
					for i := range 2 {
						p, err := traffic.StartProducer(link, traffic.ProducerConfig{
							SenderConfig: traffic.SenderConfig{Source: uint8(i), Flows: 8, MinBytes: 64, MaxBytes: 1500},
							Count:        count, CPU: &i,
						})
						guesttest.NoError(t, err)
						sources = append(sources, p)
					}
					for _, s := range sources {
						<-s.Done()
						guesttest.NoError(t, s.Stop())
					}
					guesttest.NoError(t, c.Drain(20*time.Second))
					took := time.Since(began)
					arrivals := c.Arrivals()
					if arrivals.Received != 2*count || arrivals.Duplicated+arrivals.Corrupted+arrivals.Foreign != 0 || readers == 1 && arrivals.Reordered != 0 {
						t.Errorf("%v; want %d, all good", arrivals, 2*count)
					}
					t.Logf("%.0f kpps, queues %v", 2*count/took.Seconds()/1000, arrivals.Queues)
				})
			}
		}
	}
}

// A drained queue has nothing in the ring and nothing in the worker's hands,
// and what a paused one holds is not lost.
func TestPauseAndDrain(t *testing.T) {
	for name, card := range cards() {
		t.Run(name, func(t *testing.T) {
			d, link := open(t, 1, 1000, netdev.Noqueue)
			cfg := tun.ByVhost(card)
			cfg.Paused = true
			c := consume(t, d, link, cfg)
			s := sender(t, link, traffic.SenderConfig{})
			want := uint64(0)
			for _, packets := range []int{1, 3, 63, 64, 65, 300, 900} {
				c.Pause()
				send(t, s, packets)
				time.Sleep(5 * time.Millisecond)
				if n := c.Received(); n != want {
					t.Fatalf("%d packets were read while paused", n-want)
				}
				want += uint64(packets)
				c.Resume()
				guesttest.NoError(t, c.Drain(10*time.Second))
				if n := c.Received(); n != want {
					t.Fatalf("drained, and %d of %d were received", n, want)
				}
				if arrivals := c.Arrivals(); arrivals.Received != want || arrivals.Corrupted+arrivals.Duplicated+arrivals.Reordered != 0 {
					t.Fatalf("%v; want %d", arrivals, want)
				}
			}
		})
	}
}

// What is in the used ring was received, whether the reader has come to it or
// not.
func TestTheUsedRingIsReceived(t *testing.T) {
	d, link := open(t, 1, 100, netdev.Noqueue)
	c := consume(t, d, link, tun.ByVhost(vhost.Config{Size: 16}))
	s := sender(t, link, traffic.SenderConfig{})
	send(t, s, 1)
	guesttest.NoError(t, c.Drain(5*time.Second))
	c.Pause()
	// The worker has 16 buffers, and goes on.
	send(t, s, 10)
	for deadline := time.Now().Add(5 * time.Second); c.Arrivals().Received != 11; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v, want 11", c.Arrivals())
		}
	}
}

// Calls come when they are asked for, and not when not.
func TestCalls(t *testing.T) {
	for _, eventIdx := range []bool{false, true} {
		t.Run(fmt.Sprint("event idx ", eventIdx), func(t *testing.T) {
			d, link := open(t, 1, 100, netdev.Noqueue)
			q, err := vhost.Open(d.Queues()[0], vhost.Config{EventIdx: eventIdx})
			guesttest.NoError(t, err)
			defer q.Close()
			s := sender(t, link, traffic.SenderConfig{})
			buf := make([]byte, 2048)
			q.Offer(q.Size())
			for round := range 200 {
				// With an event index the first use is called in any case
				// (drivers/vhost/vhost.c: vhost_notify).
				asked := round%2 == 0
				if asked {
					if !q.AskForCall() {
						t.Fatal("something has arrived that was not sent")
					}
				} else {
					q.RefuseCalls()
				}
				send(t, s, 1)
				guesttest.NoError(t, q.Settle())
				called, err := unix.Poll([]unix.PollFd{{Fd: int32(q.Call()), Events: unix.POLLIN}}, 0)
				guesttest.NoError(t, err)
				if (called == 1) != asked {
					t.Fatalf("round %d: calls were asked for: %v, and there were %d", round, asked, called)
				}
				if _, err := q.Read(buf); err != nil {
					t.Fatal(err)
				}
				q.RefuseCalls()
				q.Offer(q.Free())
			}
		})
	}
}

// card opens a virtqueue on a device whose ring has room for all that is sent.
func card(t *testing.T, cfg vhost.Config, packet int) (*tuntap.Device, *vhost.Queue, *traffic.Sender) {
	t.Helper()
	d, link := open(t, 1, 100, netdev.Noqueue)
	q, err := vhost.Open(d.Queues()[0], cfg)
	guesttest.NoError(t, err)
	t.Cleanup(func() { guesttest.NoError(t, q.Close()) })
	return d, q, sender(t, link, traffic.SenderConfig{MinBytes: packet, MaxBytes: packet})
}

// arrived reads all that has.
func arrived(t *testing.T, q *vhost.Queue) (packets int) {
	t.Helper()
	guesttest.NoError(t, q.Settle())
	for buf := make([]byte, 2048); ; packets++ {
		switch n, err := q.Read(buf); {
		case err == unix.EAGAIN:
			return packets
		case err != nil:
			t.Fatalf("%v after %d bytes", err, n)
		}
	}
}

// A packet that needs a dozen buffers waits until there are as many, and then
// for a kick.
func TestTooFewBuffers(t *testing.T) {
	_, q, s := card(t, vhost.Config{Mergeable: true}, 1400)
	send(t, s, 2)
	guesttest.NoError(t, q.Settle())
	for offered := range 11 {
		q.Offer(1)
		if n := arrived(t, q); n != 0 {
			t.Fatalf("%d packets arrived in %d buffers of 128 bytes", n, offered+1)
		}
	}
	if !q.OfferUnkicked(q.Free(), vhost.Sound) {
		t.Error("the worker wants no kick")
	}
	if n := arrived(t, q); n != 0 {
		t.Errorf("%d packets arrived without a kick", n)
	}
	q.Kick()
	if n := arrived(t, q); n != 2 || q.Errors() != 0 {
		t.Errorf("%d packets arrived, want 2", n)
	}
}

// What becomes of packets for which there is a buffer with a flaw, and that it
// is seen: the worker frees them, or keeps them until it has another.
func TestFlaws(t *testing.T) {
	for _, c := range []struct {
		name         string
		flaw         vhost.Flaw
		lost, errors uint64
	}{{"short", vhost.Short, 2, 0}, {"unmapped", vhost.Unmapped, 0, 1}, {"absent", vhost.Absent, 2, 0}} {
		t.Run(c.name, func(t *testing.T) {
			d, q, s := card(t, vhost.Config{}, 100)
			l, err := ledger.Open(d, tun.Driver, 0)
			guesttest.NoError(t, err)
			defer l.Close()
			if q.OfferUnkicked(1, c.flaw) {
				q.Kick()
			}
			send(t, s, 2)
			if n := arrived(t, q); n != 0 {
				t.Errorf("%d packets arrived in a buffer that is %s", n, c.name)
			}
			if n := q.Errors(); min(n, 1) != c.errors {
				t.Errorf("the worker complained %d times", n)
			}
			guesttest.NoError(t, q.Stop())
			guesttest.NoError(t, q.Start())
			q.Offer(q.Free())
			if n := arrived(t, q); n != 2-int(c.lost) {
				t.Errorf("%d of 2 packets arrived in the end, want %d", n, 2-c.lost)
			}
			freed, err := l.Freed()
			guesttest.NoError(t, err)
			lost := uint64(0)
			for _, f := range freed {
				lost += f.Count
			}
			if lost != c.lost {
				t.Errorf("%d packets were freed, want %d: %v", lost, c.lost, freed)
			}
			t.Log(freed)
		})
	}
}

// What the worker has in hand when the backend is unset goes back into the
// ring, and to whoever reads next: read(2), or another vring.
func TestStopAndReplace(t *testing.T) {
	d, q, s := card(t, vhost.Config{}, 100)
	for range 5 {
		q.Offer(2)
		send(t, s, 10)
		n := arrived(t, q)
		guesttest.NoError(t, q.Stop())
		if q.Free() != q.Size() {
			t.Fatalf("%d of %d buffers are free", q.Free(), q.Size())
		}
		guesttest.NoError(t, unix.SetNonblock(d.Queues()[0], true))
		if _, err := unix.Read(d.Queues()[0], make([]byte, 2048)); err != nil {
			t.Fatalf("nothing was put back: %v", err)
		}
		guesttest.NoError(t, q.Replace())
		guesttest.NoError(t, q.Start())
		q.Offer(q.Size())
		n += 1 + arrived(t, q)
		if n != 10 {
			t.Fatalf("%d of 10 packets arrived", n)
		}
		guesttest.NoError(t, q.Stop())
		guesttest.NoError(t, q.Start())
	}
}

// The worker is a thread that can be pinned.
func TestWorker(t *testing.T) {
	d, _ := open(t, 2, 100, netdev.Noqueue)
	cpu, seen := 1, make(map[int]bool)
	for _, tap := range d.Queues() {
		q, err := vhost.Open(tap, vhost.Config{CPU: &cpu})
		guesttest.NoError(t, err)
		defer q.Close()
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", q.Worker()))
		guesttest.NoError(t, err)
		var on unix.CPUSet
		guesttest.NoError(t, unix.SchedGetaffinity(q.Worker(), &on))
		if !strings.HasPrefix(string(comm), "vhost-") || on.Count() != 1 || !on.IsSet(cpu) || seen[q.Worker()] {
			t.Errorf("worker %d is %q on %d CPUs", q.Worker(), comm, on.Count())
		}
		seen[q.Worker()] = true
	}
}

func TestADeviceWithoutHeadersIsRefused(t *testing.T) {
	open(t, 1, 100, netdev.Noqueue) // skips on the host
	d, err := tuntap.Open(tuntap.Config{Mode: tuntap.TAP})
	guesttest.NoError(t, err)
	defer d.Close()
	if q, err := vhost.Open(d.Queues()[0], vhost.Config{}); err == nil {
		q.Close()
		t.Error("it was opened")
	} else {
		t.Log(err)
	}
}

// A worker that is kicked while its queue is detached goes on to wait for
// packets, and finds those that come once it is attached again
// (drivers/net/tun.c: __tun_detach leaves the file its device).
func TestAKickWhileDetached(t *testing.T) {
	d, q, s := card(t, vhost.Config{}, 64)
	q.Offer(q.Free())
	guesttest.NoError(t, d.Detach(0))
	q.Kick()
	time.Sleep(100 * time.Millisecond)
	guesttest.NoError(t, d.Attach(0))
	send(t, s, 1)
	// Waits and does not ask, for to ask is to kick.
	buf := make([]byte, 2048)
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
		if _, err := q.Read(buf); err == nil {
			return
		}
	}
	t.Error("the packet did not arrive")
}

// TestOpenUnderSignals: a signal that comes meanwhile is no want of memory.
func TestOpenUnderSignals(t *testing.T) {
	d, _ := open(t, 1, 16, netdev.FQCodel)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, done, ended := unix.Gettid(), make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				unix.Tgkill(unix.Getpid(), tid, unix.SIGURG) // as Go's scheduler does
			}
		}
	}()
	for range 5 {
		q, err := vhost.Open(d.Queues()[0], vhost.Config{})
		if err != nil {
			t.Error(err)
			break
		}
		guesttest.NoError(t, q.Close())
	}
	close(done)
	<-ended
}
