package traffic

import (
	"errors"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sys/unix"
)

// consumers is each kind of consumer.
func consumers() map[string]ConsumerConfig {
	return map[string]ConsumerConfig{
		"blocking":           {},
		"3 blocking, pinned": {Readers: 3, CPUs: []int{0, 1}},
		"epoll":              {Epoll: true},
		"3 epoll":            {Readers: 3, Epoll: true},
	}
}

func send(t *testing.T, s *Sender, packets int) {
	t.Helper()
	for range packets {
		if outcome, err := s.Send(); outcome != Sent {
			t.Fatalf("sent one: %v, %v", outcome, err)
		}
	}
}

// Nothing is read while paused, whether a reader was waiting in the kernel or
// not, and everything once resumed.
func TestPauseIsExact(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	for name, cfg := range consumers() {
		t.Run(name, func(t *testing.T) {
			d, link := open(t, tuntap.Config{Mode: tuntap.TUN, Qdisc: netdev.Qdisc{Kind: netdev.Noqueue}})
			c := consume(t, d, link, cfg)
			s := newSender(t, link, SenderConfig{})
			want := uint64(0)
			for range 5 {
				c.Pause()
				send(t, s, 10)
				time.Sleep(10 * time.Millisecond)
				if n := c.Received(); n != want {
					t.Fatalf("%d packets were read while paused", n-want)
				}
				want += 10
				c.Resume()
				if err := c.Drain(5 * time.Second); err != nil {
					t.Fatal(err)
				}
				if arrivals := c.Arrivals(); arrivals.Received != want {
					t.Fatalf("%v after resuming; want %d", arrivals, want)
				}
			}
		})
	}
}

// Stop ends readers that wait for a packet that never comes, and a Drain finds
// the consumer as it was.
func TestStopNeverHangs(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	for name, cfg := range consumers() {
		t.Run(name, func(t *testing.T) {
			d, link := open(t, tuntap.Config{Mode: tuntap.TAP, Queues: 4})
			c := consume(t, d, link, cfg)
			stopped := make(chan error)
			go func() { stopped <- c.Stop() }()
			select {
			case err := <-stopped:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(5 * time.Second):
				t.Error("Stop still waits")
			}
			if err := c.Drain(0); err == nil {
				t.Error("a stopped consumer drained")
			}
		})
	}
}

func TestReadersEndWithTheDevice(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	for name, cfg := range consumers() {
		t.Run(name, func(t *testing.T) {
			d, link := open(t, tuntap.Config{Mode: tuntap.TAP, Queues: 2})
			c, err := Consume(link, d.Queues(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.Stop(); !errors.Is(err, unix.EFAULT) && !errors.Is(err, unix.EBADFD) {
				t.Errorf("the readers ended with %v, want EFAULT or EBADFD", err)
			}
		})
	}
}

// A reader keeps nothing open but what it reads: a queue that is closed is gone,
// whoever reads another, and so is one whose reader was stopped.
func TestReadersKeepNoQueueOpen(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	for name, cfg := range consumers() {
		t.Run(name, func(t *testing.T) {
			d, link := open(t, tuntap.Config{Mode: tuntap.TAP})
			other, otherLink := open(t, tuntap.Config{Mode: tuntap.TAP})
			consume(t, d, link, cfg)
			c, err := Consume(otherLink, other.Queues(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Stop(); err != nil {
				t.Error(err)
			}
			if err := other.CloseQueue(0); err != nil {
				t.Fatal(err)
			}
			if _, err := LinkByName(other.Name()); err == nil {
				t.Error("the device outlived the close of its only queue")
			}
		})
	}
}

func TestASlowConsumerIsSlow(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	const interval, packets = 5 * time.Millisecond, 40
	d, link := open(t, tuntap.Config{Mode: tuntap.TUN, Qdisc: netdev.Qdisc{Kind: netdev.Noqueue}})
	c := consume(t, d, link, ConsumerConfig{Interval: interval, Paused: true})
	send(t, newSender(t, link, SenderConfig{}), packets)
	if err := c.Drain(interval * packets / 2); !errors.Is(err, ErrNotDrained) {
		t.Errorf("drained in half the time that it takes: %v", err)
	}
	began := time.Now()
	var idle Idle
	if idle.Look(c); c.Received() == packets {
		t.Error("all was received")
	}
	c.Resume()
	if err := c.Drain(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	c.Pause()
	if took := time.Since(began); took < interval*packets/4 {
		t.Errorf("the rest took %v", took)
	}
	if idle.Look(c) != 0 {
		t.Error("packets arrived, and the consumer was called idle")
	}
	time.Sleep(time.Millisecond)
	if idle.Look(c) == 0 {
		t.Error("nothing arrived, and the consumer was not called idle")
	}
}

// One reader's buffer is shorter than the packets: each arrives corrupted.
func TestAShortBufferCorrupts(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	d, link := open(t, tuntap.Config{Mode: tuntap.TUN, Qdisc: netdev.Qdisc{Kind: netdev.Noqueue}})
	c := consume(t, d, link, ConsumerConfig{ReadBytes: 60})
	send(t, newSender(t, link, SenderConfig{}), 10)
	if err := c.Drain(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	if arrivals := c.Arrivals(); arrivals.Corrupted != 10 || arrivals.Received != 10 || len(arrivals.Evidence) != evidenceLimit {
		t.Errorf("%v; want 10 corrupted", arrivals)
	}
}

func TestAVirtioHeaderIsSkipped(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	d, link := open(t, tuntap.Config{Mode: tuntap.TUN, Flags: unix.IFF_VNET_HDR, Qdisc: netdev.Qdisc{Kind: netdev.Noqueue}})
	c := consume(t, d, link, ConsumerConfig{HeaderBytes: 10})
	send(t, newSender(t, link, SenderConfig{Path: UDPSocket}), 10)
	if err := c.Drain(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	if arrivals := c.Arrivals(); arrivals.Received != 10 || arrivals.Corrupted+arrivals.Foreign != 0 {
		t.Errorf("%v; want 10 intact", arrivals)
	}
}

func TestFlowsByQueue(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	d, link := open(t, tuntap.Config{Mode: tuntap.TUN, Queues: 4, Qdisc: netdev.Qdisc{Kind: netdev.PfifoFast}})
	c := consume(t, d, link, ConsumerConfig{})
	s := newSender(t, link, SenderConfig{})
	byQueue, err := FlowsByQueue(s, c, 32)
	if err != nil {
		t.Fatal(err)
	}
	before := c.Arrivals().Queues
	for queue, flows := range byQueue {
		if len(flows) == 0 {
			t.Skipf("no flow of 32 hashes to queue %d: %v", queue, byQueue)
		}
		s.SetFlow(flows[0])
		send(t, s, 10*(queue+1))
	}
	if err := c.Drain(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	for queue, n := range c.Arrivals().Queues {
		if n -= before[queue]; n != uint64(10*(queue+1)) {
			t.Errorf("queue %d got %d packets, want %d", queue, n, 10*(queue+1))
		}
	}
}

func TestAPacketThatDoesNotComeIsNotAwaitedForever(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	d, link := open(t, tuntap.Config{Mode: tuntap.TUN})
	c := consume(t, d, link, ConsumerConfig{})
	if queue, ok := c.Expect(Packet{Seq: 1}).Wait(20 * time.Millisecond); ok {
		t.Errorf("a packet that nobody sent arrived on queue %d", queue)
	}
	if c.awaited.Load() != nil {
		t.Error("it is still awaited")
	}
}
