// Package cpu runs threads on CPUs of their own, and says what these threads do.
package cpu

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Thread runs one function after the other on a CPU of its own. For a while it
// spins when it has nothing to do: being woken takes longer than most of what
// it is asked.
type Thread struct {
	tid                int
	asked, begun, done atomic.Uint64
	asleep             atomic.Uint32 // a futex: 1 while it sleeps
	do                 func()
	quit               bool

	// What the kernel says of it is read into memory that is there: memory that
	// is new may have to wait for a CPU that is held up, to flush its TLB.
	wchan, syscall int // files under /proc/self/task
	said           [256]byte
}

// spinning is how long a thread spins before it sleeps, and leaves its CPU to
// the kernel's own threads and, without KVM, to other CPUs.
const spinning = time.Millisecond

// Start starts a thread on a CPU.
func Start(cpu int) (*Thread, error) {
	t := &Thread{}
	ready := make(chan error)
	go func() {
		// Not unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		t.tid = unix.Gettid()
		err := Pin(cpu)
		ready <- err
		if err == nil {
			t.run()
		}
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	for name, fd := range map[string]*int{"wchan": &t.wchan, "syscall": &t.syscall} {
		path := fmt.Sprintf("/proc/self/task/%d/%s", t.tid, name)
		var err error
		if *fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
	}
	return t, nil
}

// Pin keeps the calling thread on a CPU.
func Pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin a thread to CPU %d: %w", cpu, err)
	}
	return nil
}

// KeepOff keeps this process's threads off some CPUs, and lets them run on all
// others. Threads that are pinned must be so afterwards. One on a CPU that is held
// up would not run until that goes on, and with it whatever Go has scheduled on
// it: the opponent, even, after it was preempted, or whoever is to let the CPU go
// on.
func KeepOff(cpus ...int) error {
	var set unix.CPUSet
	for i := range runtime.NumCPU() {
		if !slices.Contains(cpus, i) {
			set.Set(i)
		}
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("keep threads off CPUs %d: %w", cpus, err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return fmt.Errorf("keep threads off CPUs %d: %w", cpus, err)
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("keep threads off CPUs %d: %w", cpus, err)
		}
	}
	return nil
}

func (t *Thread) run() {
	for n := uint64(1); ; n++ {
		t.next(n)
		if t.quit {
			t.done.Store(n)
			return
		}
		t.begun.Store(n)
		t.do()
		t.done.Store(n)
	}
}

// next returns when the thread has been asked for the nth time.
func (t *Thread) next(n uint64) {
	since := time.Now()
	Await(func() bool { return t.asked.Load() >= n || time.Since(since) > spinning })
	for t.asked.Load() < n {
		t.asleep.Store(1)
		if t.asked.Load() < n {
			// Not a channel: Go's scheduler takes its time to find a thread
			// that a goroutine is locked to.
			unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&t.asleep)), futexWait, 1, 0, 0, 0)
		}
		t.asleep.Store(0)
	}
}

// Operations of futex(2) (include/uapi/linux/futex.h), private to the process.
const (
	futexWait = 0 | 128
	futexWake = 1 | 128
)

// Start hands the thread what to do next; it must have finished before.
func (t *Thread) Start(do func()) {
	t.do = do
	t.ask()
}

func (t *Thread) ask() {
	t.asked.Add(1)
	if t.asleep.CompareAndSwap(1, 0) {
		unix.RawSyscall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&t.asleep)), futexWake, 1)
	}
}

// Idle says whether the thread has done what it was asked.
func (t *Thread) Idle() bool { return t.done.Load() == t.asked.Load() }

// Wait returns when the thread has done what it was asked.
func (t *Thread) Wait() { Await(t.Idle) }

// Call has the thread do something and waits.
func (t *Thread) Call(do func()) {
	t.Start(do)
	t.Wait()
}

// Stop ends the thread when it has done what it was asked.
func (t *Thread) Stop() {
	t.Wait()
	t.quit = true
	t.ask()
	t.Wait()
	unix.Close(t.wchan)
	unix.Close(t.syscall)
}

// Sleeps says whether the thread, in the midst of what it was asked, waits
// inside the kernel for something other than a spinlock.
func (t *Thread) Sleeps() bool {
	if t.begun.Load() != t.asked.Load() {
		return false
	}
	// It is on no runqueue (kernel/sched/core.c: get_wchan). That is asked
	// first, for to tell the call of a thread that is about to sleep, and is
	// held up there, the kernel waits until it does (lib/syscall.c:
	// task_current_syscall).
	if where := t.read(t.wchan); len(where) == 0 || where[0] == '0' {
		return false
	}
	// fs/proc/base.c: proc_pid_syscall
	number, _, blocked := bytes.Cut(t.read(t.syscall), []byte(" "))
	// In futex(2) it waits for nothing but Go's scheduler.
	return blocked && !bytes.Equal(number, futex)
}

var futex = []byte(strconv.Itoa(unix.SYS_FUTEX))

// read returns what the kernel says of the thread in a file, nothing if that
// cannot be read, until it is called again.
func (t *Thread) read(fd int) []byte {
	n, _ := unix.Pread(fd, t.said[:], 0)
	return t.said[:max(n, 0)]
}

// Await spins until the condition holds. Now and then it lets others have the
// CPU: softirqs that the kernel has put off, above all.
func Await(cond func() bool) {
	for {
		for range 64 {
			if cond() {
				return
			}
		}
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// Begun says whether the thread has begun what it was asked.
func (t *Thread) Begun() bool { return t.begun.Load() == t.asked.Load() }

// ID is the thread's ID in the kernel.
func (t *Thread) ID() int { return t.tid }

// Nap leaves the CPU to others for a moment; Go's own sleep takes ten times as
// long without KVM.
func Nap() {
	moment := unix.Timespec{Nsec: 100_000}
	// Go's scheduler is not told: to go on, the thread would need another one of
	// Go's, which may have to wait for a CPU that is held up.
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&moment)), 0, 0)
}
