package bench

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"github.com/ringproof/ringproof/internal/guest/vhost"
	"golang.org/x/sys/unix"
)

// TestPath counts the instructions of one packet's way, from a socket's write(2) to
// the consumer's read. One thread sends a few packets and then takes them, again and
// again, so that nothing depends on who runs when; and of all these batches the
// median is taken, which no tick of the clock is in.
func TestPath(t *testing.T) {
	if !setting.instructions {
		t.Skip("it is measured in instructions alone")
	}
	for _, p := range paths {
		t.Run(p.String(), func(t *testing.T) {
			for range setting.rounds {
				s := cost.Sample{Workload: "Path/" + p.String()}
				values, err := p.measure()
				if missing := (*kernelfeature.MissingError)(nil); errors.As(err, &missing) {
					s.Missing = missing.Error()
				} else if err != nil {
					s.Failed = err.Error()
				} else {
					s.Values = values
				}
				sample(t, s)
			}
		})
	}
}

// path is one packet's way.
type path struct {
	via   string // "tap", "tun" or "tap+vhost"
	qdisc netdev.Kind
	ring  int
	// fill says what a batch meets: "free", a ring with room for all; "full", one
	// that takes a quarter; "asleep", a consumer that sleeps, for each packet anew.
	fill string
}

var paths = []path{
	{"tap", netdev.PfifoFast, 500, "free"},
	{"tap", netdev.Noqueue, 500, "free"},
	{"tap", netdev.PfifoFast, 16, "full"},
	{"tap", netdev.FQCodel, 16, "full"},
	{"tap", netdev.Noqueue, 16, "full"},
	{"tap", netdev.PfifoFast, 500, "asleep"},
	{"tap+vhost", netdev.PfifoFast, 500, "free"},
	{"tap+vhost", netdev.PfifoFast, 16, "full"},
	{"tap+vhost", netdev.PfifoFast, 500, "asleep"},
}

func (p path) String() string {
	return fmt.Sprintf("via=%s/qdisc=%s/ring=%d/%s", p.via, p.qdisc, p.ring, p.fill)
}

const (
	batch   = 64
	batches = 200
	// warmUp are the batches that are not counted: caches of slabs, of routes, of
	// the translator fill in them.
	warmUp = 20
)

// measure returns the values of one round.
func (p path) measure() (values map[string]float64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cfg := tuntap.Config{Mode: tuntap.TAP, TxQueueLen: &p.ring, Qdisc: netdev.Qdisc{Kind: p.qdisc}}
	if p.via == "tap+vhost" {
		cfg.Flags |= unix.IFF_VNET_HDR
	}
	if setting.backpressure {
		cfg.Flags |= tuntap.IFFBackpressure
	}
	dev, err := tuntap.Open(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	out, err := openSocket(dev.Ifindex())
	if err != nil {
		return nil, err
	}
	defer unix.Close(out)
	in, err := p.consumer(dev)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.close()) }()

	size := batch
	if p.fill == "asleep" {
		size = 1
	}
	var sends, takes, all []float64
	round := func(n int) (received uint64, err error) {
		for range n {
			began := time.Now()
			gone := send(out, size)
			sent := time.Now()
			got, err := in.take(size - gone)
			if err != nil {
				return received, err
			}
			took := time.Since(sent)
			if got > 0 {
				sends = append(sends, float64(sent.Sub(began))/float64(got))
				takes = append(takes, float64(took)/float64(got))
				all = append(all, float64(sent.Sub(began)+took)/float64(got))
			}
			received += uint64(got)
		}
		return received, nil
	}
	if _, err := round(warmUp); err != nil {
		return nil, err
	}
	sends, takes, all = make([]float64, 0, batches), make([]float64, 0, batches), make([]float64, 0, batches)

	before, err := readActivity()
	if err != nil {
		return nil, err
	}
	requeues, err := requeuesOf(dev.Device)
	if err != nil {
		return nil, err
	}
	watch, err := startWatch()
	if err != nil {
		return nil, err
	}
	received, err := round(batches)
	if err != nil {
		return nil, err
	}
	whole, err := watch.elapsed()
	if err != nil {
		return nil, err
	}
	after, err := readActivity()
	if err != nil {
		return nil, err
	}
	if received == 0 {
		return nil, errors.New("no packet has arrived")
	}
	again, err := requeuesOf(dev.Device)
	if err != nil {
		return nil, err
	}
	values = map[string]float64{
		"instr/pkt": median(all), "send-instr/pkt": median(sends), "take-instr/pkt": median(takes),
		"mean-instr/pkt": whole / float64(received),
		"requeues/pkt":   float64(again-requeues) / float64(received),
		"lost/pkt":       float64(uint64(size*batches)-received) / float64(size*batches),
	}
	after.per(received, before, values)

	// Once more, with an instrument that would be measured with the rest.
	stops, err := breakpoint.CountStops()
	if err != nil {
		return values, nil // it is no figure that decides
	}
	defer stops.Close()
	received, err = round(batches)
	if err != nil {
		return nil, err
	}
	if n, err := stops.Count(); err == nil {
		values["stops/pkt"] = float64(n) / float64(received)
	}
	return values, nil
}

func requeuesOf(dev *netdev.Device) (uint64, error) {
	stats, err := dev.QdiscStats()
	return uint64(netdev.SumQdiscs(stats).Requeues), err
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// openSocket opens a socket that sends frames through the device's qdisc.
func openSocket(ifindex int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open an AF_PACKET socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex}); err != nil {
		return -1, errors.Join(fmt.Errorf("bind an AF_PACKET socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// frame is an Ethernet frame of the shortest length, of a type for experiments
// (IEEE 802: 0x88b5).
var frame = [60]byte{0: 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 6: 2, 12: 0x88, 0xb5}

// send sends so many frames, and says how many were refused.
func send(fd, n int) (refused int) {
	for range n {
		if _, err := unix.Write(fd, frame[:]); err != nil {
			refused++
		}
	}
	return refused
}

// taker takes packets from a device's ring.
type taker interface {
	// take takes packets until it has so many or there are no more.
	take(n int) (int, error)
	close() error
}

func (p path) consumer(dev *tuntap.Device) (taker, error) {
	fd := dev.Queues()[0]
	switch {
	case p.via == "tap+vhost":
		q, err := vhost.Open(fd, vhost.Config{Mergeable: true, EventIdx: true})
		if err != nil {
			return nil, err
		}
		q.Offer(q.Free())
		return &byVhost{Queue: q}, nil
	case p.fill == "asleep":
		return newSleeper(fd)
	}
	return byRead(fd), unix.SetNonblock(fd, true)
}

// byRead takes packets by read(2).
type byRead int

var buffer [2048]byte

func (fd byRead) take(n int) (int, error) {
	for got := range n {
		switch _, err := unix.Read(int(fd), buffer[:]); err {
		case nil:
		case unix.EAGAIN:
			return got, nil
		default:
			return got, fmt.Errorf("read: %w", err)
		}
	}
	return n, nil
}

func (byRead) close() error { return nil }

// byVhost takes them from a virtqueue.
type byVhost struct{ *vhost.Queue }

func (v *byVhost) take(n int) (int, error) {
	settled := false
	for got := 0; got < n; {
		switch _, err := v.Read(buffer[:]); err {
		case nil:
			got++
			settled = false
		case unix.EAGAIN:
			if settled {
				return got, nil
			}
			if free := v.Free(); free > 0 {
				v.Offer(free)
			}
			if err := v.Settle(); err != nil {
				return got, fmt.Errorf("wait for the worker of vhost-net: %w", err)
			}
			settled = true
		default:
			return got, fmt.Errorf("read the virtqueue: %w", err)
		}
	}
	return n, nil
}

func (v *byVhost) close() error { return v.Close() }

// sleeper is a thread that sleeps in read(2) until a packet comes, and says so by an
// eventfd.
type sleeper int

func newSleeper(fd int) (taker, error) {
	if err := unix.SetNonblock(fd, false); err != nil {
		return nil, err
	}
	taken, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_SEMAPHORE)
	if err != nil {
		return nil, err
	}
	go func() {
		runtime.LockOSThread() // which ends with it
		var own [2048]byte
		one := [8]byte{1}
		for {
			if _, err := unix.Read(fd, own[:]); err == unix.EINTR {
				continue
			} else if err != nil { // the device is gone
				return
			}
			if _, err := unix.Write(taken, one[:]); err != nil {
				return
			}
		}
	}()
	time.Sleep(10 * time.Millisecond) // it sleeps by then
	return sleeper(taken), nil
}

// quiet is how long nothing may come before it is believed that nothing will.
const quiet = 20 * time.Millisecond

func (s sleeper) take(n int) (int, error) {
	var count [8]byte
	for got := range n {
		ready, err := 0, error(unix.EINTR)
		for err == unix.EINTR {
			ready, err = unix.Poll([]unix.PollFd{{Fd: int32(s), Events: unix.POLLIN}}, int(quiet.Milliseconds()))
		}
		if err == nil && ready == 0 {
			return got, nil
		}
		if err == nil {
			_, err = unix.Read(int(s), count[:])
		}
		if err != nil {
			return got, fmt.Errorf("wait for the reader: %w", err)
		}
	}
	return n, nil
}

func (s sleeper) close() error { return unix.Close(int(s)) }
