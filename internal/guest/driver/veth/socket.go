package veth

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Offsets at which a filter finds what an skb says of itself
// (include/uapi/linux/filter.h).
const (
	skfAdOff   = 0xfffff000
	skfAdQueue = 24
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
