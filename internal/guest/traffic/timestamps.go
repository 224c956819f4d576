package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// CountTimestamps has the kernel say of each packet of a packet socket, from now on,
// when the driver took it (Documentation/networking/timestamping.rst:
// SOF_TIMESTAMPING_TX_SOFTWARE).
func (s *Sender) CountTimestamps() error {
	const flags = unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags); err != nil {
		return fmt.Errorf("ask for transmit timestamps of %s: SO_TIMESTAMPING: %w", s.link.Name, err)
	}
	// They wait in the receive buffer, and are lost if that is full.
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20); err != nil {
		return fmt.Errorf("make room for transmit timestamps of %s: SO_RCVBUFFORCE: %w", s.link.Name, err)
	}
	return nil
}

// Timestamps is how many timestamps there are of each packet since CountTimestamps, by
// its number from 0, of those that were not asked for before.
func (s *Sender) Timestamps() (map[uint32]int, error) {
	stamps := make(map[uint32]int)
	var data, control [1024]byte
	for {
		_, n, _, _, err := unix.Recvmsg(s.fd, data[:], control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return stamps, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read transmit timestamps of %s: %w", s.link.Name, err)
		}
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil {
			return nil, fmt.Errorf("read transmit timestamps of %s: %w", s.link.Name, err)
		}
		for _, m := range messages {
			// struct sock_extended_err: ee_errno, ee_origin and three more
			// bytes, ee_info, ee_data.
			if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_TX_TIMESTAMP && len(m.Data) >= 16 {
				stamps[binary.NativeEndian.Uint32(m.Data[12:])]++
			}
		}
	}
}
