package veth

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets at which a filter finds what an skb says of itself
// (include/uapi/linux/filter.h).
const (
	skfAdOff   = 0xfffff000
	skfAdQueue = 24
	// udpDestination is where the port is in an IPv4 packet without options.
	udpDestination = 14 + 20 + 2
)

// listen opens a packet socket for what arrives on one receive queue of a device. It
// has room for more packets than any test sends before they are read.
func listen(ifindex, queue int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket to receive: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
			fd = -1
		}
	}()
	// The kernel doubles the value (net/core/sock.c: sk_setsockopt).
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 128<<20); err != nil {
		return fd, fmt.Errorf("set the receive buffer: SO_RCVBUFFORCE: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fd, fmt.Errorf("set PACKET_IGNORE_OUTGOING: %w", err)
	}
	// The driver leaves skb->queue_mapping as it was at the near end.
	filter := []unix.SockFilter{
		// The packets of deferred.greet are not ours.
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: udpDestination},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 3, K: busyPort},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: skfAdOff + skfAdQueue},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(queue)},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x40000},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	if err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return fd, fmt.Errorf("filter by queue: %w", err)
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	if err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex, Protocol: all}); err != nil {
		return fd, fmt.Errorf("bind a packet socket: %w", err)
	}
	return fd, nil
}

// arrivals are what stands in a socket of listen. They are taken many at once: a system
// call for each packet takes longer than the rest.
type arrivals struct {
	messages [64]message
	vectors  [64]unix.Iovec
	packets  [64][2048]byte
	next, n  int // of those that were taken
}

// message is struct mmsghdr (include/linux/socket.h).
type message struct {
	unix.Msghdr
	length uint32
}

// read takes one packet; EAGAIN if there is none.
func (a *arrivals) read(fd int, buf []byte) (int, error) {
	if a.next == a.n {
		if a.vectors[0].Base == nil {
			for i := range a.messages {
				a.vectors[i].Base = &a.packets[i][0]
				a.vectors[i].SetLen(len(a.packets[i]))
				a.messages[i].Iov, a.messages[i].Iovlen = &a.vectors[i], 1
			}
		}
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&a.messages)), uintptr(len(a.messages)), unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 {
			return 0, errno
		}
		a.next, a.n = 0, int(n)
	}
	packet := a.packets[a.next][:a.messages[a.next].length]
	a.next++
	return copy(buf, packet), nil
}

// ready says whether read has one at once.
func (a *arrivals) ready() bool { return a.next < a.n }

// overrun is how many packets a socket of listen had no room for. They are lost by us.
func overrun(fd int) error {
	stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return fmt.Errorf("ask a packet socket what it dropped: %w", err)
	}
	if stats.Drops > 0 {
		return fmt.Errorf("the receive socket had no room for %d packets: read them sooner, or give it more", stats.Drops)
	}
	return nil
}
