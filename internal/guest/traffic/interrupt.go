package traffic

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kickSignal gets a reader out of a blocking read(2), which nothing else does
// while its ring is empty and its device exists (drivers/net/tun.c:
// tun_ring_recv).
const kickSignal = unix.SIGUSR1

// sigaction is the kernel's struct sigaction, the same on amd64 and arm64.
type sigaction struct {
	handler, flags, restorer, mask uint64
}

const saRestart = 0x10000000 // include/uapi/asm-generic/signal-defs.h: SA_RESTART

// interruptible makes kickSignal end a read(2) with EINTR: the Go runtime
// installs its handlers with SA_RESTART, which would resume the read.
var interruptible = sync.OnceValue(func() error {
	// Makes the runtime install its handler; nobody needs to know.
	signal.Notify(make(chan os.Signal, 1), kickSignal)
	var action sigaction
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(kickSignal), 0, uintptr(unsafe.Pointer(&action)), unsafe.Sizeof(action.mask), 0, 0)
	if errno == 0 {
		action.flags &^= saRestart
		_, _, errno = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(kickSignal), uintptr(unsafe.Pointer(&action)), 0, unsafe.Sizeof(action.mask), 0, 0)
	}
	if errno != 0 {
		return fmt.Errorf("make signal %v interrupt a read: rt_sigaction: %w", kickSignal, errno)
	}
	return nil
})
