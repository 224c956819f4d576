package traffic

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// sendBatch sends so many packets of so many bytes each, which stand one after the other,
// through a socket that does not block, and says how many it has sent. It ends with the
// first that cannot be sent. Go's scheduler is told once; see readBatch.
//
//go:nosplit
func sendBatch(fd uintptr, bytes *byte, length uintptr, packets int) (sent int, errno unix.Errno) {
	entersyscall()
	for ; sent < packets; sent++ {
		if _, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(bytes)), length, unix.MSG_DONTWAIT, 0, 0); errno != 0 {
			break
		}
		bytes = (*byte)(unsafe.Add(unsafe.Pointer(bytes), length))
	}
	exitsyscall()
	return sent, errno
}

// readBatch reads packets from fd to where bytes points, one after the other. It notes
// in records where each of them is; the first is at offset at of the spool. After each
// packet it adds one to *in. It ends when it has read most packets, when *want is no
// longer reading, or with the error of read(2).
//
// Go's scheduler is told once for all packets that the thread is in a system call, so it
// does not have to wait for a thread that the kernel holds up. A loop of unix.Read tells
// it for each packet, and reads a quarter fewer packets a second without KVM. Until
// exitsyscall nothing may grow the stack, allocate or panic: for the runtime the thread
// is in the kernel.
//
//go:nosplit
func readBatch(fd, room, most uintptr, bytes *byte, at uintptr, records *spooled, want *atomic.Int32, in *atomic.Uint64) (errno unix.Errno) {
	entersyscall()
	count := in.Load()
	for ; most > 0 && want.Load() == reading; most-- {
		var n uintptr
		if n, _, errno = unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(bytes)), room); errno != 0 {
			break
		}
		*records = spooled{int32(at), int32(n)}
		count++
		in.Store(count) // after the record
		at += n
		bytes = (*byte)(unsafe.Add(unsafe.Pointer(bytes), n))
		records = (*spooled)(unsafe.Add(unsafe.Pointer(records), unsafe.Sizeof(*records)))
	}
	exitsyscall()
	return errno
}
