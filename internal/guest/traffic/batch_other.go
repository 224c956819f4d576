//go:build !amd64

package traffic

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readBatch reads one packet from fd to where bytes points, and notes in
// records where it is, at offset at of the spool. See batch_amd64.go for what it
// could do.
func readBatch(fd, room, _ uintptr, bytes *byte, at uintptr, records *spooled, _ *atomic.Int32, in *atomic.Uint64) (errno uintptr) {
	n, _, err := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(bytes)), room)
	if err == 0 {
		*records = spooled{int32(at), int32(n)}
		in.Add(1)
	}
	return uintptr(err)
}
