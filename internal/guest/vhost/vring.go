package vhost

import (
	"sync/atomic"
	"unsafe"
)

// vring is a split virtqueue in memory (include/uapi/linux/virtio_ring.h). It
// is little-endian as VIRTIO_F_VERSION_1 has it, and so are the CPUs that this
// runs on. flags and idx are one word, for Go has no atomic access to half of
// one: flags are the lower half.
type vring struct {
	desc       []desc
	avail      *uint32 // flags and idx
	heads      []uint16
	usedEvent  *uint32 // the upper half is padding
	used       *uint32 // flags and idx
	elems      []usedElem
	availEvent *uint32 // the upper half is padding
}

// desc is struct vring_desc.
type desc struct {
	addr        uint64
	length      uint32
	flags, next uint16
}

// usedElem is struct vring_used_elem.
type usedElem struct{ id, length uint32 }

const (
	descWrite        = 2 // VRING_DESC_F_WRITE: the device writes
	availNoInterrupt = 1 // VRING_AVAIL_F_NO_INTERRUPT: no calls are wanted
	usedNoNotify     = 1 // VRING_USED_F_NO_NOTIFY: no kicks are wanted
)

// vringBytes is what a vring of so many descriptors takes.
func vringBytes(size int) int { return size*16 + (4 + 2*size + 4) + (4 + 8*size + 4) }

// newVring lays one out in memory, which is all zero and aligned to 16 bytes.
func newVring(memory []byte, size int) vring {
	at := func(offset int) unsafe.Pointer { return unsafe.Pointer(&memory[offset]) }
	avail := size * 16
	used := avail + 4 + 2*size + 4
	return vring{
		desc:       unsafe.Slice((*desc)(at(0)), size),
		avail:      (*uint32)(at(avail)),
		heads:      unsafe.Slice((*uint16)(at(avail+4)), size),
		usedEvent:  (*uint32)(at(avail + 4 + 2*size)),
		used:       (*uint32)(at(used)),
		elems:      unsafe.Slice((*usedElem)(at(used+4)), size),
		availEvent: (*uint32)(at(used + 4 + 8*size)),
	}
}

// address is where something that the kernel is told of lies.
func address[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

// halves are the flags and the idx of a word.
func halves(word *uint32) (flags, idx uint16) {
	w := atomic.LoadUint32(word)
	return uint16(w), uint16(w >> 16)
}

func setHalves(word *uint32, flags, idx uint16) {
	atomic.StoreUint32(word, uint32(flags)|uint32(idx)<<16)
}
