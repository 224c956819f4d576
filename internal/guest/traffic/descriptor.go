package traffic

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// descriptor is a source that is read by read(2), which sleeps in it.
type descriptor struct{ fd int }

func (d descriptor) begin() error { return ownDescriptors(d.fd) }

// end closes the thread's own descriptor: Stop promises that the queue can be
// closed.
func (d descriptor) end() { unix.Close(d.fd) }

func (d descriptor) read(s *spool, most int, want *atomic.Int32) error {
	return s.fill(d.fd, most, want)
}

func (d descriptor) await() error { return nil }

// A thread that has ended meanwhile is no longer found.
func (d descriptor) kick(tid int) { unix.Tgkill(unix.Getpid(), tid, kickSignal) }

// To read(2) there is nothing between the ring and the reader.
func (d descriptor) collect(*spool) {}
func (d descriptor) flush() error   { return nil }
func (d descriptor) close() error   { return nil }

// polled is a source that is read by read(2), and waited for in epoll_wait(2).
type polled struct {
	descriptor
	*poll
}

func (p polled) await() error { return p.poll.await(-1) }
func (p polled) kick(int)     { p.poll.kick() }
func (p polled) close() error { return p.poll.close() }

// poll waits for a descriptor, and for kicks.
type poll struct{ epoll, event int }

func newPoll(fd int) (*poll, error) {
	p := &poll{epoll: -1, event: -1}
	if err := p.open(fd); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *poll) open(fd int) (err error) {
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if p.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	for _, fd := range []int{fd, p.event} {
		if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return nil
}

// await waits for so many milliseconds; -1 is for ever.
func (p *poll) await(timeout int) error {
	var events [2]unix.EpollEvent
	n, err := unix.EpollWait(p.epoll, events[:], timeout)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("epoll_wait: %w", err)
	}
	for _, event := range events[:max(n, 0)] {
		if event.Fd == int32(p.event) {
			var count [8]byte
			unix.Read(p.event, count[:])
		}
	}
	return nil
}

func (p *poll) kick() { unix.Write(p.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (p *poll) close() error {
	for _, fd := range []*int{&p.epoll, &p.event} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	return nil
}

// ownDescriptors gives the thread a table of descriptors of its own, with the
// queue and what it waits on. A table that threads share makes each read(2)
// count a reference of the file (fs/file.c: __fget_light), which took up to a
// third of a reader's pace under TCG. Nothing else that is open stays in the
// copy, for it would outlive its close.
func ownDescriptors(queue int) error {
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
		if err != nil || fd <= 2 || fd == queue {
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
