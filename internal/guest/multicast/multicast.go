// Package multicast sends a fixed amount of data from several senders to several
// IPv6 multicast groups, and repairs what was lost.
//
// Each sender has a socket, and spreads its chunks over all groups in turn, as fast
// as its socket takes them. Then it asks each group's receiver what has arrived, and
// sends the rest again, until nothing is missing. What it asks goes the way of the
// data, and behind them; the answers come back by unicast.
package multicast

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/ringproof/ringproof/internal/guest/netdev"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Transfer says what is sent.
type Transfer struct {
	// Near is where the senders are, and Far where the receivers are, one for each
	// group, each with the interface that it uses.
	Near, Far               *netdev.Namespace
	NearIfindex, FarIfindex int
	// Senders and Groups are at most 255 each. Each sender has so many Chunks, of
	// ChunkBytes each.
	Senders, Groups    int
	Chunks, ChunkBytes int
	// Bound is when it is given up.
	Bound time.Duration
}

// Outcome is what became of it.
type Outcome struct {
	Took time.Duration
	// Sent are the chunks that were sent, those that were sent again among them.
	Sent uint64
	// Missing are the chunks of which no receiver has said within the bound that it
	// has them.
	Missing int
}

const (
	firstPort = 40000
	// patience is how long a poll's answer may take before it is asked again.
	patience = 50 * time.Millisecond
	// roomy is a receive buffer that loses nothing that a transfer can have on its way.
	roomy = 64 << 20
)

// group is the address of a group: site-local (RFC 4291), so that it has a source
// address without a link-local one.
func group(g int) (address [16]byte) {
	copy(address[:], net.ParseIP("ff15::5270:0"))
	address[15] = byte(g)
	return address
}

// Run sends it all.
func Run(t Transfer) (Outcome, error) {
	var receiving, sending errgroup.Group
	var done atomic.Bool
	defer func() {
		done.Store(true)
		receiving.Wait()
	}()
	for g := range t.Groups {
		r, err := t.newReceiver(g)
		if err != nil {
			return Outcome{}, err
		}
		receiving.Go(func() error {
			defer unix.Close(r.fd)
			return r.run(&done)
		})
	}
	senders := make([]*sender, t.Senders)
	for i := range senders {
		s, err := t.newSender(i)
		if err != nil {
			return Outcome{}, err
		}
		defer unix.Close(s.fd)
		senders[i] = s
	}
	began := time.Now()
	for _, s := range senders {
		sending.Go(func() error { return s.run(began.Add(t.Bound)) })
	}
	err := sending.Wait()
	o := Outcome{Took: time.Since(began)}
	for _, s := range senders {
		o.Sent += s.sent
		o.Missing += s.missing()
	}
	done.Store(true)
	return o, errors.Join(err, receiving.Wait())
}

// chunksOf is how many of a sender's chunks go to a group: chunk c goes to group c
// modulo Groups.
func (t Transfer) chunksOf(g int) int { return (t.Chunks - g + t.Groups - 1) / t.Groups }

func socket(ns *netdev.Namespace, timeout time.Duration) (fd int, err error) {
	err = ns.Do(func() error {
		if fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open a UDP socket of IPv6: %w", err)
		}
		return nil
	})
	if err != nil {
		return -1, err
	}
	// So that whoever waits looks whether it is to end.
	wait := unix.NsecToTimeval(timeout.Nanoseconds())
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait))
	if err != nil {
		return -1, errors.Join(fmt.Errorf("set a socket's timeouts: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// receiver takes what is sent to one group.
type receiver struct {
	fd, group int
	has       []bitmap // by sender
}

func (t Transfer) newReceiver(g int) (_ *receiver, err error) {
	r := &receiver{group: g}
	if r.fd, err = socket(t.Far, patience); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("receive from a group: %w", err), unix.Close(r.fd))
		}
	}()
	for range t.Senders {
		r.has = append(r.has, newBitmap(t.chunksOf(g)))
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, roomy); err != nil {
		return nil, fmt.Errorf("SO_RCVBUFFORCE: %w", err)
	}
	if err := unix.Bind(r.fd, &unix.SockaddrInet6{Port: firstPort + g}); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	join := &unix.IPv6Mreq{Multiaddr: group(g), Interface: uint32(t.FarIfindex)}
	if err := unix.SetsockoptIPv6Mreq(r.fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, join); err != nil {
		return nil, fmt.Errorf("IPV6_JOIN_GROUP: %w", err)
	}
	return r, nil
}

func (r *receiver) run(done *atomic.Bool) error {
	buf, answer := make([]byte, 2048), make([]byte, 0, 2048)
	for !done.Load() {
		n, from, err := unix.Recvfrom(r.fd, buf, 0)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive from group %d: %w", r.group, err)
		}
		m, err := parse(buf[:n])
		if err != nil || int(m.group) != r.group || int(m.sender) >= len(r.has) {
			return fmt.Errorf("group %d has received what nobody sent to it: %w", r.group, err)
		}
		switch has := r.has[m.sender]; m.kind {
		case data:
			if int(m.number) >= 8*len(has) {
				return fmt.Errorf("group %d has received a chunk that there is not: %d", r.group, m.number)
			}
			has.set(int(m.number))
		case poll:
			m.kind, m.rest = report, has
			answer = m.append(answer[:0])
			if err := unix.Sendto(r.fd, answer, 0, from); err != nil && err != unix.EAGAIN && err != unix.ENOBUFS {
				return fmt.Errorf("report to sender %d: %w", m.sender, err)
			}
		}
	}
	return nil
}

// sender sends to all groups.
type sender struct {
	t     Transfer
	id    int
	fd    int
	to    []unix.SockaddrInet6 // by group
	has   []bitmap             // what each group's receiver has, as far as is known
	sent  uint64
	buf   []byte
	chunk []byte
}

func (t Transfer) newSender(id int) (_ *sender, err error) {
	s := &sender{t: t, id: id, chunk: make([]byte, t.ChunkBytes)}
	if s.fd, err = socket(t.Near, patience); err != nil {
		return nil, err
	}
	for option, value := range map[int]int{unix.IPV6_MULTICAST_IF: t.NearIfindex, unix.IPV6_MULTICAST_LOOP: 0} {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, option, value); err != nil {
			return nil, errors.Join(fmt.Errorf("send to groups: setsockopt %d: %w", option, err), unix.Close(s.fd))
		}
	}
	for g := range t.Groups {
		s.to = append(s.to, unix.SockaddrInet6{Port: firstPort + g, Addr: group(g)})
		s.has = append(s.has, newBitmap(t.chunksOf(g)))
	}
	return s, nil
}

// run sends and repairs until nothing is missing, or the time is over.
func (s *sender) run(deadline time.Time) error {
	for round := uint32(1); s.missing() > 0; round++ {
		for c := range s.t.Chunks {
			if time.Now().After(deadline) {
				return nil
			}
			if g, at := c%s.t.Groups, c/s.t.Groups; !s.has[g].has(at) {
				if err := s.send(message{data, byte(s.id), byte(g), uint32(at), s.chunk}, deadline); err != nil {
					return err
				}
				s.sent++
			}
		}
		if err := s.ask(round, deadline); err != nil {
			return err
		}
	}
	return nil
}

// ask asks all groups that lack something what they have, until all have answered.
func (s *sender) ask(round uint32, deadline time.Time) error {
	waiting := make(map[int]bool)
	for g := range s.has {
		if s.has[g].count() < s.t.chunksOf(g) {
			waiting[g] = true
		}
	}
	buf := make([]byte, 2048)
	for len(waiting) > 0 && time.Now().Before(deadline) {
		for g := range s.has {
			if waiting[g] {
				if err := s.send(message{kind: poll, sender: byte(s.id), group: byte(g), number: round}, deadline); err != nil {
					return err
				}
			}
		}
		for again := time.Now().Add(patience); len(waiting) > 0 && time.Now().Before(again); {
			n, _, err := unix.Recvfrom(s.fd, buf, 0)
			if err == unix.EAGAIN || err == unix.EINTR {
				continue
			}
			if err != nil {
				return fmt.Errorf("sender %d: receive a report: %w", s.id, err)
			}
			m, err := parse(buf[:n])
			if err != nil || m.kind != report || int(m.sender) != s.id || int(m.group) >= len(s.has) {
				return fmt.Errorf("sender %d has received what is no report to it: %w", s.id, err)
			}
			// One of a round before tells less, but nothing wrong.
			if err := s.has[m.group].merge(m.rest); err != nil {
				return fmt.Errorf("sender %d: a report: %w", s.id, err)
			}
			if m.number == round {
				delete(waiting, int(m.group))
			}
		}
	}
	return nil
}

// send waits while the socket has no room, as long as the time is not over.
func (s *sender) send(m message, deadline time.Time) error {
	s.buf = m.append(s.buf[:0])
	for {
		switch err := unix.Sendto(s.fd, s.buf, 0, &s.to[m.group]); err {
		case nil, unix.ENOBUFS: // what the qdisc has refused is as good as lost
			return nil
		case unix.EAGAIN, unix.EINTR:
			if time.Now().After(deadline) {
				return nil
			}
		default:
			return fmt.Errorf("sender %d: send to group %d: %w", s.id, m.group, err)
		}
	}
}

// missing is how many chunks no receiver has reported.
func (s *sender) missing() int {
	n := s.t.Chunks
	for _, has := range s.has {
		n -= has.count()
	}
	return n
}
