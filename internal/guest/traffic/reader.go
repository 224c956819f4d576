package traffic

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ringproof/ringproof/internal/guest/vhost"
	"golang.org/x/sys/unix"
)

// reader reads one queue from a thread of its own.
type reader struct {
	consumer *Consumer
	fd       int
	sink     sink
	spool    spool

	virtqueue *vhost.Queue // of a reader of one, else nil

	tid          atomic.Int32
	epoll, event int // of a reader that does not block, else -1; event kicks it

	parked atomic.Bool // waits at the gate
	ended  atomic.Bool
	err    error // why it ended unasked; written before ended
}

func (r *reader) start(cpu *int) error {
	if err := r.open(); err != nil {
		return errors.Join(err, r.close())
	}
	ready := make(chan error, 1)
	err := onThread(cpu, func() {
		err := r.ownDescriptors()
		if ready <- err; err == nil {
			r.run()
		}
	})
	if err == nil {
		err = <-ready
	}
	if err != nil {
		return errors.Join(err, r.close())
	}
	return nil
}

func (r *reader) open() (err error) {
	cfg := &r.consumer.cfg
	switch {
	case cfg.Vhost != nil:
		if r.virtqueue, err = vhost.Open(r.fd, *cfg.Vhost); err != nil {
			return err
		}
		return r.openEpoll(r.virtqueue.Call())
	case cfg.Epoll:
		return r.openEpoll(r.fd)
	}
	return nil
}

// openEpoll makes the reader wait for fd and for kicks.
func (r *reader) openEpoll(fd int) (err error) {
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if r.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	for _, fd := range []int{fd, r.event} {
		if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return nil
}

func (r *reader) close() error {
	for _, fd := range []*int{&r.epoll, &r.event} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	if r.virtqueue == nil {
		return nil
	}
	complaints := r.virtqueue.Errors()
	err := r.virtqueue.Close()
	r.virtqueue = nil
	if complaints > 0 {
		err = errors.Join(err, fmt.Errorf("vhost-net complained %d times about its virtqueue", complaints))
	}
	return err
}

// collect reads what is in the used ring of a virtqueue while its reader does
// not: what vhost-net has put there is received.
func (r *reader) collect() {
	if r.virtqueue == nil {
		return
	}
	for {
		n, err := r.virtqueue.Read(r.spool.free())
		if err != nil {
			return
		}
		r.spool.put(n)
	}
}

// run reads until it is asked to stop or the queue cannot be read.
func (r *reader) run() {
	r.tid.Store(int32(unix.Gettid()))
	defer r.ended.Store(true)
	if r.virtqueue == nil {
		// Its own descriptor: Stop promises that the queue can be closed.
		defer unix.Close(r.fd)
	}
	c := r.consumer
	pace := pacer{interval: c.cfg.Interval}
	for {
		if c.want.Load() != reading {
			if r.park() == stopping {
				return
			}
		}
		switch err := r.read(); err {
		case nil:
			if pace.interval != 0 {
				pace.wait(&c.want)
			}
		case unix.EINTR:
		case unix.EAGAIN:
			r.spool.check()
			if err := r.await(); err != nil {
				r.err = err
				return
			}
		default:
			// EFAULT and EBADFD: the device was removed.
			r.err = fmt.Errorf("read: %w", err)
			return
		}
	}
}

// ownDescriptors gives the thread a table of descriptors of its own, with the
// queue and what it waits on. A table that threads share makes each read(2)
// count a reference of the file (fs/file.c: __fget_light), which took up to a
// third of a reader's pace under TCG. Nothing else that is open stays in the
// copy, for it would outlive its close. Where vhost-net reads, it does so for
// the whole process.
func (r *reader) ownDescriptors() error {
	if r.virtqueue != nil {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return fmt.Errorf("give a reader its own descriptors: unshare: %w", err)
	}
	const dir = "/proc/thread-self/fd/"
	open, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("give a reader its own descriptors: %w", err)
	}
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 || fd == r.fd {
			continue
		}
		// Go's own poller is an eventpoll and an eventfd, too, and has to work
		// on any thread.
		if file, err := os.Readlink(dir + entry.Name()); err == nil && !strings.HasPrefix(file, "anon_inode:[event") {
			unix.Close(fd)
		}
	}
	return nil
}

// read reads as many packets as there are, or one if the reader is slow.
func (r *reader) read() error {
	if r.virtqueue != nil {
		n, err := r.readVirtqueue(r.spool.free())
		if err == nil {
			r.spool.put(n)
		}
		return err
	}
	most := spoolPackets
	if r.consumer.cfg.Interval != 0 {
		most = 1
	}
	return r.spool.fill(r.fd, most, &r.consumer.want)
}

// readVirtqueue offers the buffers of what was read again, many at once.
func (r *reader) readVirtqueue(buf []byte) (int, error) {
	n, err := r.virtqueue.Read(buf)
	if free := r.virtqueue.Free(); free >= r.virtqueue.Size()/2 {
		r.virtqueue.Offer(free)
	}
	return n, err
}

// park waits at the gate for as long as the consumer is paused.
func (r *reader) park() int32 {
	c := r.consumer
	c.gate.L.Lock()
	defer c.gate.L.Unlock()
	for c.want.Load() == pausing {
		r.parked.Store(true)
		c.gate.Wait()
	}
	r.parked.Store(false)
	return c.want.Load()
}

// await waits until there is something to read, or the reader is kicked.
func (r *reader) await() error {
	timeout := -1
	if r.virtqueue != nil {
		if !r.virtqueue.AskForCall() {
			return nil
		}
		defer r.virtqueue.RefuseCalls()
		if r.consumer.cfg.Vhost.Polled {
			timeout = 1
		}
	}
	var events [2]unix.EpollEvent
	n, err := unix.EpollWait(r.epoll, events[:], timeout)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("epoll_wait: %w", err)
	}
	for _, event := range events[:max(n, 0)] {
		if event.Fd == int32(r.event) {
			var count [8]byte
			unix.Read(r.event, count[:])
		}
	}
	return nil
}

// heeds says whether the reader does what is wanted, which is not to read.
func (r *reader) heeds(want int32) bool {
	return r.ended.Load() || want == pausing && r.parked.Load()
}

// kick gets the reader out of the system call that it waits in.
func (r *reader) kick() {
	if r.event >= 0 {
		unix.Write(r.event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		return
	}
	// A thread that has ended meanwhile is no longer found.
	if tid := r.tid.Load(); tid != 0 {
		unix.Tgkill(unix.Getpid(), int(tid), kickSignal)
	}
}

// pacer keeps a slow consumer slow.
type pacer struct {
	interval time.Duration
	next     time.Time
}

// wait waits until the next packet may be read, or want is no longer reading.
func (p *pacer) wait(want *atomic.Int32) {
	now := time.Now()
	if p.next = p.next.Add(p.interval); p.next.Before(now) {
		p.next = now
	}
	for want.Load() == reading {
		left := time.Until(p.next)
		if left <= 0 {
			return
		}
		time.Sleep(min(left, 10*time.Millisecond))
	}
}
