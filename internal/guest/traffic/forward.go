package traffic

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Forwarder moves packets from one descriptor to another, one at a time, as a VPN
// or the emulation of a network card does: read(2), write(2), and so on.
type Forwarder struct {
	from, to int
	packets  atomic.Uint64
	done     chan struct{}
	err      error // written before done is closed
}

// StartForwarder begins to forward, on a thread of its own. Both descriptors must
// be blocking, and be of devices whose packets begin alike. It ends when one of
// them cannot be used any more, which removing its device brings about.
func StartForwarder(from, to int) (*Forwarder, error) {
	f := &Forwarder{from: from, to: to, done: make(chan struct{})}
	err := onThread(nil, func() {
		defer close(f.done)
		buf := make([]byte, 1<<16+64)
		defer runtime.KeepAlive(buf)
		reading, errno := forward(uintptr(f.from), uintptr(f.to), uintptr(len(buf)), &buf[0], &f.packets)
		verb := "write"
		if reading {
			verb = "read"
		}
		f.err = fmt.Errorf("forward packets: %s: %w", verb, errno)
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Packets is how many were forwarded.
func (f *Forwarder) Packets() uint64 { return f.packets.Load() }

// Done is closed when it has ended.
func (f *Forwarder) Done() <-chan struct{} { return f.done }

// Err says why it has ended.
func (f *Forwarder) Err() error { return f.err }

// forward forwards until an error. Go's scheduler is told of one system call, for
// the reason that readBatch gives: what is forwarded costs what it costs a program
// in C. In between nothing may grow the stack, allocate or panic.
//
//go:nosplit
func forward(from, to, room uintptr, buf *byte, packets *atomic.Uint64) (reading bool, errno unix.Errno) {
	entersyscall()
	for {
		var n uintptr
		if n, _, errno = unix.RawSyscall(unix.SYS_READ, from, uintptr(unsafe.Pointer(buf)), room); errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			reading = true
			break
		}
		for {
			if _, _, errno = unix.RawSyscall(unix.SYS_WRITE, to, uintptr(unsafe.Pointer(buf)), n); errno != unix.EINTR {
				break
			}
		}
		if errno != 0 {
			break
		}
		packets.Add(1)
	}
	exitsyscall()
	return reading, errno
}
