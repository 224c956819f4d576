package traffic

import (
	"sync/atomic"
	_ "unsafe" // for go:linkname
)

// readPackets reads packets from fd to where bytes points, one behind the
// other, and notes in records where each of them is, the first at offset at of
// the spool. After each it stores the count of all packets so far, which begins
// with *in. It ends when it has read most, when *want is no longer 0, which is
// reading, or with the error of read(2).
//
// A loop in Go takes a twentieth more time for a packet.
//
//go:noescape
func readPackets(fd, room, most uintptr, bytes *byte, at uintptr, records *spooled, want *atomic.Int32, in *atomic.Uint64) (errno uintptr)

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// readBatch is readPackets, of which Go's scheduler is told: whatever it wants
// to stop, it need not wait for a thread that the kernel holds up. To tell it of
// each packet would cost a fifth more time under TCG.
//
//go:nosplit
func readBatch(fd, room, most uintptr, bytes *byte, at uintptr, records *spooled, want *atomic.Int32, in *atomic.Uint64) (errno uintptr) {
	entersyscall()
	errno = readPackets(fd, room, most, bytes, at, records, want, in)
	exitsyscall()
	return errno
}
