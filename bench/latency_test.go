package bench

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	latencyTxQueueLen = 500
	// The consumer is slower than the flood, and both keep a pace that a guest
	// without KVM on a busy host keeps, too: so what is measured is how long packets
	// queue, and not how fast the host is. A ring of 500 is read in 200 ms.
	consumed = 2500 // packets/s
	flooded  = 7500 // packets/s
	probed   = 500  // packets/s
	// saturated is how much more than what was consumed must have been offered.
	saturated = 1.5
	// latencyDrain is how long what is queued in the end may take to arrive.
	latencyDrain = 20 * time.Second
)

// Sources of packets.
const (
	flood = iota
	probe
)

// TestLatency has one flow that saturates a device, and another of a small packet
// now and then, whose time from send(2) to the return of read(2) is taken by one
// clock.
func TestLatency(t *testing.T) {
	if setting.instructions && os.Getenv("WORKLOADS") != "all" {
		t.Skip("its figure is a time: WORKLOADS=all has it all the same")
	}
	lasting := 2500 * time.Millisecond
	if os.Getenv("WORKLOADS") == "all" {
		lasting = 30 * time.Second // enough for p99.9 if two of three probes are lost
	}
	for _, qdisc := range []netdev.Kind{netdev.FQCodel, netdev.PfifoFast, netdev.FQ} {
		name := fmt.Sprintf("qdisc=%s/txqlen=%d", qdisc, latencyTxQueueLen)
		t.Run(name, func(t *testing.T) {
			rounds(t, "Latency/"+name, func(s *cost.Sample) error { return latency(qdisc, lasting, s) })
		})
	}
}

// latency measures for that long.
func latency(qdisc netdev.Kind, lasting time.Duration, s *cost.Sample) (err error) {
	ring := latencyTxQueueLen
	cfg := tuntap.Config{Mode: tuntap.TAP, TxQueueLen: &ring, Qdisc: netdev.Qdisc{Kind: qdisc}}
	if setting.backpressure {
		cfg.Flags |= tuntap.IFFBackpressure
	}
	e := newEnd(1)
	defer func() { err = errors.Join(err, e.close()) }()
	if err := e.open(cfg, false); err != nil {
		return err
	}
	var senders [2]*traffic.Sender
	if err := e.ns.Do(func() error {
		link, err := traffic.LinkByName(e.device.Name())
		if err != nil {
			return err
		}
		for source, bytes := range map[uint8]int{flood: 1400, probe: 64} {
			// The qdisc is what limits them, and no send buffer.
			senders[source], err = traffic.NewSender(link, traffic.SenderConfig{Source: source, MinBytes: bytes, MaxBytes: bytes, SendBuffer: 64 << 20})
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, sender := range senders {
		defer sender.Close()
	}
	return measureLatency(e, senders, lasting, s)
}

func measureLatency(e *end, senders [2]*traffic.Sender, lasting time.Duration, s *cost.Sample) error {
	watch, err := startWatch()
	if err != nil {
		return err
	}
	began := time.Now()
	// When each probe was sent, since began.
	sent := make([]atomic.Int64, int(lasting.Seconds()*probed)+1)
	var sending errgroup.Group
	sending.Go(func() error {
		return paced(began, flooded, int(lasting.Seconds()*flooded), func() error {
			outcome, err := senders[flood].Send()
			if outcome == traffic.Full {
				senders[flood].GiveUp()
			}
			return err
		})
	})
	sending.Go(func() error {
		return paced(began, probed, len(sent), func() error {
			sent[senders[probe].Next().Seq].Store(int64(time.Since(began)))
			outcome, err := senders[probe].Send()
			if outcome == traffic.Full {
				return errors.New("the probe's send buffer is full")
			}
			return err
		})
	})
	r := reader{fd: e.device.Queues()[0], began: began, sent: sent}
	var reading errgroup.Group
	reading.Go(r.run)
	err = sending.Wait()
	took := time.Since(began)
	left := ""
	if err == nil {
		left = e.drain(&r)
	}
	r.stop.Store(true)
	if err := errors.Join(err, reading.Wait()); err != nil {
		return err
	}
	s.Window, err = watch.stop()
	if err != nil {
		return err
	}
	offered, taken := senders[flood].Counts().Offered, r.packets[flood].Load()
	switch {
	case left != "":
		return errors.New(left)
	case float64(offered) < saturated*consumed*took.Seconds():
		return fmt.Errorf("the flood was none: %d packets in %v, which is less than %v times the consumer's pace", offered, took.Round(time.Millisecond), saturated)
	case len(r.took) == 0:
		return fmt.Errorf("none of %d probes has arrived", len(sent))
	}
	s.Values["lost"] = 1 - float64(len(r.took))/float64(len(sent))
	slices.Sort(r.took)
	for unit, q := range map[string]float64{"p50-us": 0.5, "p99-us": 0.99, "p99.9-us": 0.999} {
		if v, ok := cost.Quantile(r.took, q); ok {
			s.Values[unit] = v
		}
	}
	s.Values["max-us"] = r.took[len(r.took)-1]
	if setting.instructions {
		s.Window.Unit, s.Window.Per = "instr/pkt", float64(taken+r.packets[probe].Load())
	}
	return nil
}

// paced calls f so often, at a pace of so many a second. What is late is made up for.
func paced(began time.Time, perSecond float64, times int, f func() error) error {
	for done := 0; done < times; time.Sleep(time.Millisecond) {
		for due := min(int(time.Since(began).Seconds()*perSecond), times); done < due; done++ {
			if err := f(); err != nil {
				return err
			}
		}
	}
	return nil
}

// reader is the consumer.
type reader struct {
	fd      int
	began   time.Time
	sent    []atomic.Int64
	stop    atomic.Bool
	packets [2]atomic.Uint64 // by source
	took    []float64        // microseconds, of the probes that arrived; of run alone
}

func (r *reader) run() error {
	buf := make([]byte, 2048)
	for turn := time.Now(); !r.stop.Load(); time.Sleep(time.Millisecond) {
		now := time.Now()
		due := int(now.Sub(turn).Seconds() * consumed)
		turn = turn.Add(time.Duration(due) * time.Second / consumed)
		for range due {
			n, err := unix.Read(r.fd, buf)
			at := time.Since(r.began)
			if err == unix.EAGAIN {
				turn = now // what could have been read and was not there is not made up for
				break
			}
			if err != nil {
				return fmt.Errorf("read: %w", err)
			}
			p, err := traffic.Identify(buf[:n], true)
			if err != nil {
				return fmt.Errorf("a packet has arrived that nobody sent: %w", err)
			}
			if p.Source == probe {
				r.took = append(r.took, float64(at-time.Duration(r.sent[p.Seq].Load()))/1e3)
			}
			r.packets[p.Source].Add(1)
		}
	}
	return nil
}

// drain waits until all that is queued has been read, and says what is left if that
// does not happen.
func (e *end) drain(r *reader) (left string) {
	read := func() uint64 { return r.packets[flood].Load() + r.packets[probe].Load() }
	for deadline := time.Now().Add(latencyDrain); ; {
		before := read()
		time.Sleep(200 * time.Millisecond)
		b := e.backlog()
		if b.err == "" && b.qlen == 0 && !b.ring && read() == before {
			return ""
		}
		if time.Now().After(deadline) {
			if b.qlen > 0 && !b.ring {
				left = "the txq " + cost.Stalled + "; "
			}
			return fmt.Sprintf("%s%v after nothing was sent, %v", left, latencyDrain, b)
		}
	}
}
