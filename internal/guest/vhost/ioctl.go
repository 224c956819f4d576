package vhost

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of /dev/vhost-net (include/uapi/linux/vhost.h), which x/sys lacks.
const (
	ior = 2 << 30
	iow = 1 << 30
	of  = 0xaf << 8 // VHOST_VIRTIO

	setOwner     = of | 0x01
	getFeatures  = ior | 8<<16 | of | 0x00
	setFeatures  = iow | 8<<16 | of | 0x00
	setMemTable  = iow | 8<<16 | of | 0x03
	setLogFD     = iow | 4<<16 | of | 0x07
	setVringNum  = iow | 8<<16 | of | 0x10
	setVringAddr = iow | 40<<16 | of | 0x11
	setVringBase = iow | 8<<16 | of | 0x12
	getVringBase = ior | setVringBase
	setVringKick = iow | 8<<16 | of | 0x20
	setVringCall = iow | 8<<16 | of | 0x21
	setVringErr  = iow | 8<<16 | of | 0x22
	setBackend   = iow | 8<<16 | of | 0x30 // VHOST_NET_SET_BACKEND
)

// receiveQueue is the index of the virtqueue that gets the tap's packets
// (drivers/vhost/net.c: VHOST_NET_VQ_RX).
const receiveQueue = 0

// vringState is struct vhost_vring_state, and vringFile struct
// vhost_vring_file; an fd of -1 is none.
type (
	vringState struct{ index, num uint32 }
	vringFile  struct {
		index uint32
		fd    int32
	}
)

// vringAddr is struct vhost_vring_addr.
type vringAddr struct {
	index, flags           uint32
	desc, used, avail, log uint64
}

// memTable is struct vhost_memory with one region.
type memTable struct {
	regions, padding        uint32
	physical, size, virtual uint64
	flags                   uint64
}

// ioctl passes arg, which may be nil.
func ioctl[T any](fd int, request uint, name string, arg *T) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(arg)))
	if errno != 0 {
		return fmt.Errorf("%s: %w", name, errno)
	}
	return nil
}
