package traffic

import (
	"errors"
	"fmt"

	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// Path is the way from a socket to the driver.
type Path int

const (
	// PacketSocket is AF_PACKET, through the qdisc.
	PacketSocket Path = iota
	// PacketBypass is AF_PACKET with PACKET_QDISC_BYPASS: straight to the
	// driver, at the same time as others.
	PacketBypass
	// UDPSocket is a UDP socket, through routing and the qdisc.
	UDPSocket
	// XDPRedirect is an XDP program elsewhere that redirects frames to a tap
	// device, straight into its ring. It says nothing of those that do not
	// fit, so there must be room.
	XDPRedirect
	// XDPTransmit is an XDP program of the device's own, which turns around
	// (XDP_TX) what is written to its queue. There must be room, too.
	XDPTransmit
)

func (p Path) String() string {
	switch p {
	case PacketSocket:
		return "packet"
	case PacketBypass:
		return "bypass"
	case UDPSocket:
		return "udp"
	case XDPRedirect:
		return "xdp-redirect"
	case XDPTransmit:
		return "xdp-tx"
	}
	return fmt.Sprintf("Path(%d)", int(p))
}

// SenderConfig says what a socket sends.
type SenderConfig struct {
	Path Path
	// Source is the ID by which the receiver knows this sender; two that
	// send to the same consumer need different ones.
	Source uint8
	// Flows is the number of flows, taken in turn; 0 means 1.
	Flows int
	// FirstFlow is the lowest flow: a sender with FirstFlow f and one flow
	// sends on f alone.
	FirstFlow uint16
	// MinBytes and MaxBytes bound the packets' length from the IP header on,
	// which goes through all values between. 0 means 64 and 256.
	MinBytes, MaxBytes int
	// SendBuffer is the socket's, in bytes of the kernel's accounting (an skb
	// of a short packet counts about 768). 0 keeps the default
	// (net.core.wmem_default), which fits some 270 short packets in a qdisc.
	SendBuffer int
	// Queue is the descriptor to write to, of XDPTransmit.
	Queue int
}

// Sender sends one packet at a time through a socket that never blocks. It is
// not safe for concurrent use.
type Sender struct {
	link *Link
	cfg  SenderConfig
	fd   int
	xdp  xdp
	seq  uint64
	// packet is the next packet, if it is built, and flow is the flow that it
	// belongs to.
	packet []byte
	built  bool
	batch  []byte // of SendAll
	flow   uint16
	to     unix.SockaddrInet4 // of a UDP packet
	counts Counts
}

// NewSender opens the socket. Close it when done.
func NewSender(link *Link, cfg SenderConfig) (*Sender, error) {
	if cfg.Flows == 0 {
		cfg.Flows = 1
	}
	if cfg.MinBytes == 0 && cfg.MaxBytes == 0 {
		cfg.MinBytes, cfg.MaxBytes = 64, 256
	}
	if cfg.MinBytes < MinSize || cfg.MaxBytes < cfg.MinBytes || cfg.MaxBytes > min(MaxSize, link.mtu) {
		return nil, fmt.Errorf("send through %s: packets of %d to %d bytes, but %d to %d are possible", link.Name, cfg.MinBytes, cfg.MaxBytes, MinSize, min(MaxSize, link.mtu))
	}
	if int(cfg.FirstFlow)+cfg.Flows > MaxFlows {
		return nil, fmt.Errorf("send through %s: flows %d to %d, but the last possible is %d", link.Name, cfg.FirstFlow, int(cfg.FirstFlow)+cfg.Flows-1, MaxFlows-1)
	}
	s := &Sender{link: link, cfg: cfg, fd: -1, packet: make([]byte, 0, ethernetLen+MaxSize+8)}
	if err := s.open(); err != nil {
		s.Close()
		return nil, fmt.Errorf("send through %s: %w", link.Name, err)
	}
	return s, nil
}

func (s *Sender) open() (err error) {
	switch s.cfg.Path {
	case UDPSocket:
		err = s.openUDP()
	case XDPRedirect:
		return s.openRedirect()
	case XDPTransmit:
		return s.openTransmit()
	default:
		err = s.openPacket()
	}
	if err != nil || s.cfg.SendBuffer == 0 {
		return err
	}
	// The kernel doubles the value (net/core/sock.c: sk_setsockopt).
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, s.cfg.SendBuffer/2); err != nil {
		return fmt.Errorf("set the send buffer to %d bytes: SO_SNDBUFFORCE: %w", s.cfg.SendBuffer, err)
	}
	return nil
}

func (s *Sender) openPacket() (err error) {
	// Protocol 0 receives nothing: else every packet sent would be cloned
	// for this socket (net/core/dev.c: dev_queue_xmit_nit).
	s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return &kernelfeature.MissingError{Option: "CONFIG_PACKET", What: "AF_PACKET sockets", Err: err}
	}
	if err != nil {
		return fmt.Errorf("open an AF_PACKET socket: %w", err)
	}
	if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Ifindex: s.link.Index}); err != nil {
		return fmt.Errorf("bind an AF_PACKET socket: %w", err)
	}
	if s.cfg.Path != PacketBypass {
		return nil
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return fmt.Errorf("set PACKET_QDISC_BYPASS: %w", err)
	}
	return nil
}

func (s *Sender) openUDP() (err error) {
	if err := s.link.addAddress(); err != nil {
		return err
	}
	s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a UDP socket: %w", err)
	}
	if err := unix.BindToDevice(s.fd, s.link.Name); err != nil {
		return fmt.Errorf("bind a UDP socket to the device: %w", err)
	}
	local := &unix.SockaddrInet4{Port: sourcePort + int(s.cfg.Source), Addr: s.link.local}
	if err := unix.Bind(s.fd, local); err != nil {
		return fmt.Errorf("bind a UDP socket to port %d: %w", local.Port, err)
	}
	// Else ENOBUFS is hidden (net/ipv4/udp.c: udp_send_skb).
	if err := unix.SetsockoptInt(s.fd, unix.SOL_IP, unix.IP_RECVERR, 1); err != nil {
		return fmt.Errorf("set IP_RECVERR: %w", err)
	}
	s.to.Addr = s.link.peer
	return nil
}

// Next is the packet that the next Send sends.
func (s *Sender) Next() Packet {
	s.build()
	return Packet{Source: s.cfg.Source, Flow: s.flow, Seq: s.seq}
}

// Counts returns what was sent so far.
func (s *Sender) Counts() Counts { return s.counts }

// SetFlow makes all packets from the next on go on that flow.
func (s *Sender) SetFlow(flow uint16) {
	s.cfg.FirstFlow, s.cfg.Flows = flow, 1
	s.built = false
}

func (s *Sender) build() {
	if s.built {
		return
	}
	s.built = true
	s.flow = s.cfg.FirstFlow + uint16(s.seq%uint64(s.cfg.Flows))
	// A step that is not a divisor of many spans goes through all lengths
	// without neighbours being alike.
	size := s.cfg.MinBytes + int(s.seq*97%uint64(s.cfg.MaxBytes-s.cfg.MinBytes+1))
	p := Packet{Source: s.cfg.Source, Flow: s.flow, Seq: s.seq}
	s.packet = s.packet[:0]
	if s.cfg.Path == UDPSocket {
		s.to.Port = int(flowPort + s.flow)
	} else {
		s.packet = s.link.appendHeaders(s.packet, p, size)
	}
	s.packet = appendPayload(s.packet, p, size)
}

// Send tries to send the next packet. The error is nil for Sent, Refused and
// Full.
func (s *Sender) Send() (Outcome, error) {
	s.build()
	err := s.send()
	if err == nil {
		s.count(&Counts{Offered: 1})
		return Sent, nil
	}
	return s.failed(err)
}

// batch is how many packets SendAll builds at once.
const batch = 64

// SendAll sends so many packets of the same length through a packet socket, as Send does.
// It ends early with the first that is neither sent nor refused, and returns the last
// outcome.
func (s *Sender) SendAll(packets int) (Outcome, error) {
	if s.cfg.MinBytes != s.cfg.MaxBytes || s.cfg.Path != PacketSocket && s.cfg.Path != PacketBypass {
		return Unsent, fmt.Errorf("send many packets through %s at once: they must have the same length, and a packet socket", s.link.Name)
	}
	outcome := Sent
	for packets > 0 {
		first, n := s.seq, min(packets, batch)
		s.batch = s.batch[:0]
		for range n {
			s.built = false
			s.build()
			s.batch = append(s.batch, s.packet...)
			s.seq++
		}
		s.seq, s.built = first, false
		sent, errno := sendBatch(uintptr(s.fd), &s.batch[0], uintptr(len(s.batch)/n), n)
		s.counts.Add(Counts{Offered: uint64(sent)})
		s.seq += uint64(sent)
		packets -= sent
		if errno == 0 {
			continue
		}
		s.build()
		var err error
		if outcome, err = s.failed(errno); err != nil || outcome == Full {
			return outcome, err
		}
		packets--
	}
	return outcome, nil
}

// failed counts the packet that was built last, and could not be sent for that error.
func (s *Sender) failed(err error) (Outcome, error) {
	switch err {
	case unix.ENOBUFS:
		s.count(&Counts{Offered: 1, Refused: 1})
		return Refused, nil
	case unix.EAGAIN, unix.EINTR:
		return Full, nil
	case unix.ENETDOWN:
		// Either the device is down and no skb was made, or the stack had
		// no queue to put it in and freed it (net/core/dev.c: __dev_queue_xmit,
		// a device without a qdisc whose txq is stopped).
		if s.link.up() {
			s.count(&Counts{Offered: 1, Refused: 1})
			return Refused, nil
		}
		fallthrough
	default:
		s.count(&Counts{Offered: 1, Unallocated: 1})
		return Unsent, fmt.Errorf("send a packet of %d bytes through %s (%v): %w", len(s.packet), s.link.Name, s.cfg.Path, err)
	}
}

// GiveUp counts the packet that found the send buffer Full as not allocated and goes
// on to the next.
func (s *Sender) GiveUp() { s.count(&Counts{Offered: 1, Unallocated: 1}) }

func (s *Sender) count(c *Counts) {
	s.counts.Add(*c)
	s.seq++
	s.built = false
}

func (s *Sender) send() error {
	switch s.cfg.Path {
	case UDPSocket:
		return unix.Sendto(s.fd, s.packet, unix.MSG_DONTWAIT, &s.to)
	case XDPRedirect:
		return s.xdp.redirect(s.packet)
	case XDPTransmit:
		return transmit(s.cfg.Queue, s.packet)
	}
	return unix.Send(s.fd, s.packet, unix.MSG_DONTWAIT)
}

// SendElsewhere tries to send what Send would send next through another device,
// from the same packet socket. It is not counted.
func (s *Sender) SendElsewhere(to *Link) (Outcome, error) {
	s.build()
	switch err := unix.Sendto(s.fd, s.packet, unix.MSG_DONTWAIT, &unix.SockaddrLinklayer{Ifindex: to.Index}); err {
	case nil:
		return Sent, nil
	case unix.EAGAIN:
		return Full, nil
	default:
		return Unsent, fmt.Errorf("send a packet of %d bytes through %s from a socket of %s: %w", len(s.packet), to.Name, s.link.Name, err)
	}
}

// Reopen sends through a new socket from the next packet on: the old one is no
// longer bound once the device has left its network namespace
// (net/packet/af_packet.c: packet_notifier).
func (s *Sender) Reopen() error {
	if err := s.Close(); err != nil {
		return err
	}
	return s.open()
}

// Close closes the socket; what it has in the qdisc stays there.
func (s *Sender) Close() error {
	err := s.xdp.close()
	if s.fd < 0 {
		return err
	}
	fd := s.fd
	s.fd = -1
	return errors.Join(err, unix.Close(fd))
}
