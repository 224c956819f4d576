package traffic

import (
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// gomaxprocs serialises the workers' claims on GOMAXPROCS.
var gomaxprocs sync.Mutex

// claimProc changes GOMAXPROCS by n: each worker adds one for itself, so that
// the kernel's scheduler, and not Go's, decides which of them run.
func claimProc(n int) {
	gomaxprocs.Lock()
	defer gomaxprocs.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
}

// onThread runs body on an operating system thread of its own, pinned to cpu
// unless that is nil. It returns once the thread is set up.
func onThread(cpu *int, body func()) error {
	ready := make(chan error)
	go func() {
		// Not unlocked: the thread, and with it its affinity, ends with
		// the goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends, and /proc/self is its.
			ready <- onThread(cpu, body)
			runtime.UnlockOSThread()
			return
		}
		if err := pin(cpu); err != nil {
			ready <- err
			return
		}
		claimProc(1)
		defer claimProc(-1)
		ready <- nil
		body()
	}()
	return <-ready
}

func pin(cpu *int) error {
	if cpu == nil {
		return nil
	}
	var set unix.CPUSet
	set.Set(*cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin a thread to CPU %d: %w", *cpu, err)
	}
	return nil
}
