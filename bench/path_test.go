package bench

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"github.com/ringproof/ringproof/internal/guest/vhost"
	"golang.org/x/sys/unix"
)

// TestPath counts the instructions of one packet's way, from a socket's write(2) to
// the consumer's read. One thread sends a few packets and then takes them, again and
// again, so that little depends on who runs when; and of all these batches the middle
// half counts, in which no tick of the clock is.
func TestPath(t *testing.T) {
	if !setting.instructions {
		t.Skip("it is measured in instructions alone")
	}
	for _, p := range paths {
		t.Run(p.String(), func(t *testing.T) {
			rounds(t, "Path/"+p.String(), p.measure)
		})
	}
}

// path is one packet's way.
type path struct {
	via   string // "tap", read by read(2), or "vhost", a tap device's by vhost-net
	qdisc netdev.Kind
	ring  int
	// fill says what a batch meets: "free", a ring with room for all; "full", one
	// that takes a quarter; "asleep", a consumer that sleeps, for each packet anew.
	fill string
}

var paths = []path{
	{"tap", netdev.PfifoFast, 500, "free"},
	{"tap", netdev.Noqueue, 500, "free"},
	{"tap", netdev.FQCodel, 16, "full"},
	{"tap", netdev.Noqueue, 16, "full"},
	{"tap", netdev.PfifoFast, 500, "asleep"},
	{"vhost", netdev.PfifoFast, 500, "free"},
	{"vhost", netdev.FQCodel, 16, "full"},
	{"vhost", netdev.PfifoFast, 500, "asleep"},
}

func (p path) String() string {
	return fmt.Sprintf("via=%s/qdisc=%s/%s", p.via, p.qdisc, p.fill)
}

const (
	batch   = 64
	batches = 200
	// warmUp are the batches that are not counted: caches of slabs, of routes, of
	// the translator fill in them.
	warmUp = 20
)

// measure is one round.
func (p path) measure(s *cost.Sample) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer markOther()
	cfg := tuntap.Config{Mode: tuntap.TAP, TxQueueLen: &p.ring, Qdisc: netdev.Qdisc{Kind: p.qdisc}}
	if p.via == "vhost" {
		cfg.Flags |= unix.IFF_VNET_HDR
	}
	if setting.backpressure {
		cfg.Flags |= tuntap.IFFBackpressure
	}
	dev, err := tuntap.Open(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	out, err := openSocket(dev.Ifindex())
	if err != nil {
		return err
	}
	defer unix.Close(out)
	in, err := p.consumer(dev)
	if err != nil {
		return err
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
			markProducer()
			gone := send(out, size)
			sent := time.Now()
			markConsumer()
			got, end, err := in.take(size - gone)
			if err != nil {
				return received, err
			}
			took := end.Sub(sent)
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
		return err
	}
	sends, takes, all = make([]float64, 0, batches), make([]float64, 0, batches), make([]float64, 0, batches)

	before, err := readActivity()
	if err != nil {
		return err
	}
	requeues, err := requeuesOf(dev.Device)
	if err != nil {
		return err
	}
	watch, err := startWatch()
	if err != nil {
		return err
	}
	received, err := round(batches)
	if err != nil {
		return err
	}
	s.Window, err = watch.stop()
	if err != nil {
		return err
	}
	after, err := readActivity()
	if err != nil {
		return err
	}
	if received == 0 {
		return errors.New("no packet has arrived")
	}
	again, err := requeuesOf(dev.Device)
	if err != nil {
		return err
	}
	s.Window.Unit, s.Window.Per = "mean-instr/pkt", float64(received)
	s.Values = map[string]float64{
		"instr/pkt": midmean(all), "send-instr/pkt": midmean(sends), "take-instr/pkt": midmean(takes),
		"requeues/pkt": float64(again-requeues) / float64(received),
		"lost/pkt":     float64(uint64(size*batches)-received) / float64(size*batches),
	}
	after.per(received, before, s.Values)

	// Once more, with an instrument that would be measured with the rest.
	stops, err := breakpoint.CountStops()
	if err != nil {
		return nil // the limits are of figures that do without
	}
	defer func() { err = errors.Join(err, stops.Close()) }()
	if received, err = round(batches); err != nil {
		return err
	}
	n, err := stops.Count()
	if err != nil {
		return err
	}
	s.Values["stops/pkt"] = float64(n) / float64(received)
	if reader, ok := in.(byRead); ok && p.fill == "full" && p.qdisc != netdev.Noqueue {
		s.Values["dry/wake"], err = reader.dry(dev.Device, out, stops)
	}
	return err
}

func requeuesOf(dev *netdev.Device) (uint64, error) {
	stats, err := dev.QdiscStats()
	return uint64(netdev.SumQdiscs(stats).Requeues), err
}

// midmean is the mean of the middle half.
func midmean(values []float64) float64 {
	slices.Sort(values)
	middle := values[len(values)/4 : len(values)-len(values)/4]
	var sum float64
	for _, v := range middle {
		sum += v
	}
	return sum / float64(len(middle))
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

// call is read(2) or write(2). Go's scheduler is not told: its watchdog (runtime:
// sysmon) would look every 20 microseconds whether the call lasts, and each look is a
// context switch that is measured with the rest. With a call that blocks there must
// be another of Go's processors: see TestMain.
func call(number uintptr, fd int, buf []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	return int(n), errno
}

// frame is an Ethernet frame of the shortest length, of a type for experiments
// (IEEE 802: 0x88b5).
var frame = [60]byte{0: 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 6: 2, 12: 0x88, 0xb5}

// send sends so many frames, and says how many were refused.
func send(fd, n int) (refused int) {
	for range n {
		if _, errno := call(unix.SYS_WRITE, fd, frame[:]); errno != 0 {
			refused++
		}
	}
	return refused
}

// taker takes packets from a device's ring.
type taker interface {
	// take takes packets until it has so many, or there are no more; and says when
	// it had looked for the last time before it waited for those that did not come.
	take(n int) (got int, end time.Time, err error)
	close() error
}

func (p path) consumer(dev *tuntap.Device) (taker, error) {
	fd := dev.Queues()[0]
	switch {
	case p.via == "vhost":
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

// quiet is how long nothing may come before it is believed that nothing will.
const quiet = time.Millisecond

// byRead takes packets by read(2), and waits in poll(2).
type byRead int

var buffer [2048]byte

func (fd byRead) take(n int) (got int, end time.Time, err error) {
	for got < n {
		switch _, errno := call(unix.SYS_READ, int(fd), buffer[:]); errno {
		case 0:
			got++
		case unix.EAGAIN:
			end = time.Now()
			// A txq that was woken sends from ksoftirqd, which needs the CPU.
			ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(quiet.Milliseconds()))
			if err != nil && err != unix.EINTR {
				return got, end, fmt.Errorf("poll: %w", err)
			}
			if ready == 0 && err == nil {
				return got, end, nil
			}
		default:
			return got, end, fmt.Errorf("read: %w", errno)
		}
	}
	return got, time.Now(), nil
}

// dry is the share of wakes at which the ring was empty, 0 if there is no wake. A
// consumer can read what the ring holds at a wake while the txq sends; with an empty
// ring it has to wait until the txq has.
func (fd byRead) dry(dev *netdev.Device, out int, stops *breakpoint.Stops) (float64, error) {
	var wakes, dry uint64
	for range warmUp {
		before, err := countsOf(dev)
		if err != nil {
			return 0, err
		}
		sent, got := uint64(batch-send(out, batch)), uint64(0)
		for {
			now, err := countsOf(dev)
			if err != nil {
				return 0, err
			}
			ring := sent + before.qlen - got - now.qlen - (now.txDropped - before.txDropped)
			woken, err := stops.Count()
			if err != nil {
				return 0, err
			}
			n, _, err := fd.take(1)
			if err != nil {
				return 0, err
			}
			if n == 0 {
				break
			}
			got++
			after, err := stops.Count()
			if err != nil {
				return 0, err
			}
			if after > woken {
				wakes++
				if ring == 1 { // the one that was read
					dry++
				}
			}
		}
	}
	return float64(dry) / float64(max(wakes, 1)), nil
}

func (byRead) close() error { return nil }

// byVhost takes them from a virtqueue.
type byVhost struct{ *vhost.Queue }

func (v *byVhost) take(n int) (got int, end time.Time, err error) {
	for settled := false; got < n; {
		switch _, err := v.Read(buffer[:]); err {
		case nil:
			got++
			settled = false
		case unix.EAGAIN:
			if settled {
				return got, end, nil
			}
			end = time.Now()
			if free := v.Free(); free > 0 {
				v.Offer(free)
			}
			if err := v.Settle(); err != nil {
				return got, end, fmt.Errorf("wait for the worker of vhost-net: %w", err)
			}
			settled = true
		default:
			return got, end, fmt.Errorf("read the virtqueue: %w", err)
		}
	}
	return got, time.Now(), nil
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
		markConsumer()
		var own [2048]byte
		one := [8]byte{1}
		for {
			if _, errno := call(unix.SYS_READ, fd, own[:]); errno == unix.EINTR {
				continue
			} else if errno != 0 { // the device is gone
				return
			}
			if _, errno := call(unix.SYS_WRITE, taken, one[:]); errno != 0 {
				return
			}
		}
	}()
	time.Sleep(10 * time.Millisecond) // it sleeps by then
	return sleeper(taken), nil
}

// asleep is how long a packet may take to its reader: it is a stall if it takes
// longer.
const asleep = 10 * time.Second

func (s sleeper) take(n int) (got int, end time.Time, err error) {
	// That poll(2) sets a timer for would be measured.
	stall := time.AfterFunc(asleep, func() {
		one := [8]byte{1}
		_, _ = unix.Write(int(s), one[:])
	})
	var count [8]byte
	for got < n {
		if _, errno := call(unix.SYS_READ, int(s), count[:]); errno == 0 {
			got++
		} else if errno != unix.EINTR {
			return got, time.Now(), fmt.Errorf("wait for the reader: %w", errno)
		}
	}
	end = time.Now()
	if !stall.Stop() {
		err = fmt.Errorf("%s %v, after a packet was sent to a reader that sleeps", cost.Silent, asleep)
	}
	return got, end, err
}

func (s sleeper) close() error { return unix.Close(int(s)) }
