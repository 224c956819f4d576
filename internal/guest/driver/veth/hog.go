package veth

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/ringproof/ringproof/inject/cpu"
	"golang.org/x/sys/unix"
)

// Priorities of SCHED_FIFO: a hog runs before the threads that poll.
const (
	pollPriority = 1
	hogPriority  = 2
)

// hog keeps the threads that poll from running on its CPU. It spins, because a kernel
// thread can neither be stopped by a signal nor frozen.
type hog struct {
	cpu  int
	want atomic.Uint32 // a futex: 1 while it is to have the CPU
	has  atomic.Bool
	quit atomic.Bool
	done chan struct{}
}

// startHog starts one that has nothing yet.
func startHog(on int) (*hog, error) {
	h := &hog{cpu: on, done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(h.done)
		// Not unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		err := errors.Join(cpu.Pin(on), prioritise(0, hogPriority))
		ready <- err
		for err == nil && !h.quit.Load() {
			unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&h.want)), futexWait, 0, 0, 0, 0)
			h.spin()
		}
	}()
	return h, <-ready
}

// prioritise makes a thread SCHED_FIFO.
func prioritise(tid int, priority uint32) error {
	if err := unix.SchedSetAttr(tid, &unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: priority}, 0); err != nil {
		return fmt.Errorf("make a thread SCHED_FIFO: %w", err)
	}
	return nil
}

// Operations of futex(2) (include/uapi/linux/futex.h), private to the process.
const (
	futexWait = 0 | 128
	futexWake = 1 | 128
)

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// spin spins for as long as the CPU is wanted. Go's scheduler takes the thread to be in
// a system call: else it would take the CPU from it to collect garbage.
//
//go:nosplit
func (h *hog) spin() {
	entersyscall()
	for h.want.Load() != 0 {
		h.has.Store(true)
	}
	h.has.Store(false)
	exitsyscall()
}

// take returns when nothing that polls runs on the CPU.
func (h *hog) take() error {
	if h.want.Swap(1) == 0 {
		unix.RawSyscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&h.want)), futexWake, 1)
	}
	if !wait(h.has.Load) {
		return fmt.Errorf("hold up what polls on CPU %d: a SCHED_FIFO thread has not run there for %v", h.cpu, patience)
	}
	return nil
}

// patience is how long to wait for what takes microseconds, and spinning for how much of
// that it is not worth to sleep.
const (
	patience = 10 * time.Second
	spinning = 200 * time.Microsecond
)

// wait waits until the condition holds, and says whether it did in time.
func wait(cond func() bool) bool {
	for began := time.Now(); !cond(); {
		switch took := time.Since(began); {
		case took > patience:
			return false
		case took > spinning:
			cpu.Nap()
		}
	}
	return true
}

// leave lets everything run there again.
func (h *hog) leave() {
	h.want.Store(0)
	wait(func() bool { return !h.has.Load() })
}

func (h *hog) close() {
	h.leave()
	h.quit.Store(true)
	h.want.Store(1)
	unix.RawSyscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&h.want)), futexWake, 1)
	h.want.Store(0)
	for {
		select {
		case <-h.done:
			return
		default:
			unix.RawSyscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&h.want)), futexWake, 1)
			cpu.Nap()
		}
	}
}
