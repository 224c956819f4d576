package traffic

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Taker is a consumer in the kernel that takes packets from the rings of a device by
// itself, and brings them to descriptors that are read.
type Taker interface {
	// Hold says whether it is held up: then the rings fill.
	Hold(on bool) error
	// Settle waits until it has brought what it was woken for.
	Settle() error
}

// brought is a source to which a Taker brings packets.
type brought struct {
	polled
	taker Taker
}

func (b brought) read(s *spool, most int, want *atomic.Int32) error {
	err := b.polled.read(s, most, want)
	if err == unix.ENETDOWN { // the device at the other end was down for a while
		err = unix.EINTR
	}
	return err
}

func (b brought) collect(s *spool) {
	for {
		n, err := unix.Read(b.fd, s.free())
		if err != nil {
			return
		}
		s.put(n)
	}
}

// flush waits until the readers have read what was brought.
func (b brought) flush() error {
	if err := b.taker.Settle(); err != nil {
		return err
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		fds := []unix.PollFd{{Fd: int32(b.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 0); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			return nil
		}
		if time.Since(began) > 10*time.Second {
			return fmt.Errorf("descriptor %d has had something to read for 10s", b.fd)
		}
	}
}
