package traffic

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ConsumerConfig says how packets are read. The zero value is one blocking
// reader for each queue.
type ConsumerConfig struct {
	// Readers of each queue; 0 means 1.
	Readers int
	// Epoll makes the readers wait in epoll_wait(2), each on its own
	// instance, and read until there is nothing left. Else they block in
	// read(2): the ones to choose if a reader is to be held up in the kernel.
	Epoll bool
	// Queue opens a queue to which a consumer in the kernel takes the packets of
	// a descriptor's ring, one for each reader; nil is read(2). What is read is
	// what has been received there. A pause offers no buffers: those that the
	// consumer in the kernel has it may still fill.
	Queue func(fd int) (Queue, error)
	// Taker takes packets from the rings to the descriptors by itself, and the readers
	// wait in epoll_wait(2) for what it has brought; nil if they take them. While they
	// are paused it is held up.
	Taker Taker
	// CPUs to pin readers to, in turn; none pins none.
	CPUs []int
	// Interval is the least time that each reader takes for a packet: a slow
	// consumer. 0 is as fast as can be.
	Interval time.Duration
	// Paused makes the readers wait for Resume before they read anything.
	Paused bool
	// HeaderBytes in front of each packet: the size of the virtio_net_hdr of
	// a device with IFF_VNET_HDR, which must say that there is nothing to be
	// done with the packet.
	HeaderBytes int
	// ReadBytes is the size of the buffer given to read(2); 0 means 2048. One
	// that is shorter than a packet truncates it.
	ReadBytes int
}

// What readers are asked to do.
const (
	reading int32 = iota
	pausing
	stopping
)

// Consumer reads packets from the queues of a device and keeps account of them.
type Consumer struct {
	cfg     ConsumerConfig
	fds     []int
	readers []*reader

	want atomic.Int32 // one of reading, pausing, stopping
	gate sync.Cond    // parked readers wait here for want to change

	awaitedMu sync.Mutex // taken to change awaited
	awaited   atomic.Pointer[[]*Arrival]

	held error // why the Taker did not do what it was told

	control sync.Mutex // serialises Pause, Resume, Stop, Drain and Arrivals
}

// Consume starts to read from the queues, descriptors of the
// device. It sets or clears their O_NONBLOCK, as Epoll needs, so a queue can
// have only one Consumer at a time. Stop it before the queues are closed.
func Consume(link *Link, queues []int, cfg ConsumerConfig) (*Consumer, error) {
	cfg.Readers = max(cfg.Readers, 1)
	if cfg.ReadBytes == 0 {
		cfg.ReadBytes = 2048
	}
	c := &Consumer{cfg: cfg, fds: append([]int(nil), queues...)}
	c.gate.L = new(sync.Mutex)
	if cfg.Paused {
		c.want.Store(pausing)
	}
	if err := c.start(link); err != nil {
		return nil, errors.Join(fmt.Errorf("read from %s: %w", link.Name, err), c.Stop())
	}
	return c, nil
}

func (c *Consumer) start(link *Link) (err error) {
	if c.cfg.Taker != nil {
		if err := c.cfg.Taker.Hold(c.cfg.Paused); err != nil {
			return err
		}
	}
	if !c.cfg.Epoll && c.cfg.Queue == nil && c.cfg.Taker == nil {
		if err := interruptible(); err != nil {
			return err
		}
	}
	for queue, fd := range c.fds {
		if err := unix.SetNonblock(fd, c.cfg.Epoll || c.cfg.Taker != nil); err != nil {
			return fmt.Errorf("set O_NONBLOCK of queue %d: %w", queue, err)
		}
		for range c.cfg.Readers {
			r := &reader{consumer: c}
			r.sink = sink{ethernet: link.ethernet, header: c.cfg.HeaderBytes, queue: queue, awaited: &c.awaited}
			if err := r.spool.init(&r.sink, c.cfg.ReadBytes); err != nil {
				return err
			}
			var cpu *int
			if n := len(c.cfg.CPUs); n > 0 {
				cpu = &c.cfg.CPUs[len(c.readers)%n]
			}
			if r.source, err = c.open(fd); err != nil {
				return err
			}
			if err := r.start(cpu); err != nil {
				return err
			}
			c.readers = append(c.readers, r)
		}
	}
	return nil
}

// open makes the source of a reader of fd.
func (c *Consumer) open(fd int) (source, error) {
	switch {
	case c.cfg.Queue != nil:
		queue, err := c.cfg.Queue(fd)
		if err != nil {
			return nil, err
		}
		calls, err := newPoll(queue.Call())
		if err != nil {
			return nil, errors.Join(err, queue.Close())
		}
		return filled{queue, calls}, nil
	case c.cfg.Taker != nil:
		packets, err := newPoll(fd)
		return brought{polled{descriptor{fd}, packets}, c.cfg.Taker}, err
	case c.cfg.Epoll:
		packets, err := newPoll(fd)
		return polled{descriptor{fd}, packets}, err
	}
	return descriptor{fd}, nil
}

// Pause returns once no reader reads.
func (c *Consumer) Pause() {
	c.control.Lock()
	defer c.control.Unlock()
	c.ask(pausing)
}

// Resume lets the readers read.
func (c *Consumer) Resume() {
	c.control.Lock()
	defer c.control.Unlock()
	c.ask(reading)
}

// Stop ends all readers, blocked ones too. What they received can still be
// reported.
func (c *Consumer) Stop() error {
	c.control.Lock()
	defer c.control.Unlock()
	c.ask(stopping)
	errs := []error{c.held}
	for _, r := range c.readers {
		r.source.collect(&r.spool)
		if r.err != nil {
			errs = append(errs, fmt.Errorf("reader of queue %d: %w", r.sink.queue, r.err))
		}
		r.spool.close()
		if err := r.source.close(); err != nil {
			errs = append(errs, fmt.Errorf("reader of queue %d: %w", r.sink.queue, err))
		}
	}
	return errors.Join(errs...)
}

// ask tells the readers what to do and, unless that is to read, waits until
// they no longer do. A Consumer that was stopped stays so.
func (c *Consumer) ask(want int32) {
	if c.cfg.Taker != nil {
		c.held = errors.Join(c.held, c.cfg.Taker.Hold(want == pausing))
	}
	c.gate.L.Lock()
	if c.want.Load() != stopping {
		c.want.Store(want)
	}
	c.gate.Broadcast()
	c.gate.L.Unlock()
	if want == reading {
		return
	}
	for _, r := range c.readers {
		// Again until it took notice: a signal that comes just before
		// read(2) is lost.
		for !r.heeds(want) {
			r.kick()
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// Received is how many packets have arrived so far, good and bad. It costs no
// reader anything, so that a stall can be watched for.
func (c *Consumer) Received() uint64 {
	var n uint64
	for _, r := range c.readers {
		n += r.spool.in.Load()
	}
	return n
}

// Idle is the time since a packet last arrived, as far as its calls can tell:
// it compares Received with what the previous call found.
type Idle struct {
	received uint64
	since    time.Time
}

// Look returns how long no packet has arrived on c; 0 on the first call and
// whenever one has.
func (i *Idle) Look(c *Consumer) time.Duration {
	now := time.Now()
	if n := c.Received(); i.since.IsZero() || n != i.received {
		i.received, i.since = n, now
	}
	return now.Sub(i.since)
}

// ErrNotDrained is the error of a Drain that did not come to an end in time.
var ErrNotDrained = errors.New("packets are still there to read")

// Flush waits until what was taken from the rings is received. Call it while the
// readers read and no producer sends.
func (c *Consumer) Flush() error {
	for _, r := range c.readers {
		if r.ended.Load() {
			continue
		}
		if err := r.source.flush(); err != nil {
			return fmt.Errorf("flush queue %d: %w", r.sink.queue, err)
		}
	}
	return nil
}

// Drain lets the readers read until poll(2) says that no queue has anything
// left, and pauses them again if they were paused. The error is ErrNotDrained
// if that takes longer than timeout.
func (c *Consumer) Drain(timeout time.Duration) error {
	c.control.Lock()
	defer c.control.Unlock()
	before := c.want.Load()
	if before == stopping {
		return errors.New("drain: the consumer was stopped")
	}
	c.ask(reading)
	defer c.ask(before)
	for deadline := time.Now().Add(timeout); ; time.Sleep(time.Millisecond) {
		left, err := c.readable()
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		if left == 0 {
			return c.Flush()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("drain: %w on %d of %d queues after %v", ErrNotDrained, left, len(c.fds), timeout)
		}
	}
}

// Asleep says whether a queue has something to read while all of its readers sleep in the
// kernel. It is false where a consumer in the kernel takes the packets.
func (c *Consumer) Asleep() (bool, error) {
	if c.cfg.Queue != nil || c.cfg.Taker != nil || c.want.Load() != reading {
		return false, nil
	}
	awake := make(map[int]bool) // queues
	for _, r := range c.readers {
		sleeps, err := r.sleeps()
		if err != nil {
			return false, err
		}
		if !sleeps {
			awake[r.sink.queue] = true
		}
	}
	for queue, fd := range c.fds {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 0); err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if fds[0].Revents&unix.POLLIN != 0 && !awake[queue] {
			return true, nil
		}
	}
	return false, nil
}

// readable counts the queues that have something to read
// (drivers/net/tun.c: tun_chr_poll looks at the ring).
func (c *Consumer) readable() (int, error) {
	fds := make([]unix.PollFd, len(c.fds))
	for i, fd := range c.fds {
		fds[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	if _, err := unix.Poll(fds, 0); err != nil && !errors.Is(err, unix.EINTR) {
		return 0, err
	}
	left := 0
	for _, fd := range fds {
		if fd.Revents&unix.POLLIN != 0 {
			left++
		}
	}
	return left, nil
}
