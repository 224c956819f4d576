package traffic

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reader reads one queue from a thread of its own.
type reader struct {
	consumer *Consumer
	fd       int
	sink     sink
	spool    spool

	tid          atomic.Int32
	epoll, event int        // of an epoll reader, else -1; event kicks it
	iovec        unix.Iovec // for a blocking reader's read

	parked atomic.Bool // waits at the gate
	ended  atomic.Bool
	err    error // why it ended unasked; written before ended
}

func (r *reader) start(cpu *int) error {
	if r.consumer.cfg.Epoll {
		if err := r.openEpoll(); err != nil {
			r.close()
			return err
		}
	}
	if err := onThread(cpu, r.run); err != nil {
		r.close()
		return err
	}
	return nil
}

func (r *reader) openEpoll() (err error) {
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if r.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	for _, fd := range []int{r.fd, r.event} {
		if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return nil
}

func (r *reader) close() {
	for _, fd := range []*int{&r.epoll, &r.event} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// run reads until it is asked to stop or the queue cannot be read.
func (r *reader) run() {
	r.tid.Store(int32(unix.Gettid()))
	defer r.ended.Store(true)
	c := r.consumer
	pace := pacer{interval: c.cfg.Interval}
	for {
		if c.want.Load() != reading {
			if r.park() == stopping {
				return
			}
		}
		n, errno := r.read(r.spool.free())
		switch errno {
		case 0:
			r.spool.put(n)
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
			r.err = fmt.Errorf("read: %w", errno)
			return
		}
	}
}

// read is read(2). While there is something to read, it does not tell Go's
// scheduler, which would cost a fifth more time under TCG; the price is that Go
// cannot stop the world while the kernel holds such a thread up. A blocking
// reader tells it before it waits.
func (r *reader) read(buf []byte) (int, unix.Errno) {
	at, length := uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf))
	if r.epoll >= 0 {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(r.fd), at, length)
		return int(n), errno
	}
	r.iovec.Base, r.iovec.Len = &buf[0], uint64(len(buf))
	const here = ^uintptr(0) // no offset
	n, _, errno := unix.RawSyscall6(unix.SYS_PREADV2, uintptr(r.fd), uintptr(unsafe.Pointer(&r.iovec)), 1, here, here, unix.RWF_NOWAIT)
	if errno == unix.EAGAIN || errno == unix.EOPNOTSUPP {
		// Nothing to read, or a driver that cannot tell.
		r.spool.check()
		n, _, errno = unix.Syscall(unix.SYS_READ, uintptr(r.fd), at, length)
	}
	return int(n), errno
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
	var events [2]unix.EpollEvent
	n, err := unix.EpollWait(r.epoll, events[:], -1)
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
