package veth

import (
	"errors"

	"github.com/ringproof/ringproof/internal/guest/netdev"
	"golang.org/x/sys/unix"
)

// Mirror is a pair whose far end sends back what it receives (XDP_TX). NAPI of the near
// end, which has GRO and no XDP program, receives it.
type Mirror struct {
	pair   *pair
	socket int // for what comes back
}

// OpenMirror makes one. Close it when done.
func OpenMirror() (_ *Mirror, err error) {
	m := &Mirror{socket: -1}
	if m.pair, err = newPair(1, 1, nil); err != nil {
		return nil, err
	}
	// What the far end sends of itself goes through the same ring.
	err = errors.Join(setFeature(m.pair.far.Name(), ethtoolSTSO, false), setFeature(m.pair.near.Name(), ethtoolSGRO, true), m.pair.attach(always(xdpTransmit)), m.pair.up())
	if err == nil {
		m.socket, err = listen(m.pair.near.Ifindex(), 0)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Link is the near end, and Far the far one.
func (m *Mirror) Link() *netdev.Device { return m.pair.near }
func (m *Mirror) Far() *netdev.Device  { return m.pair.far }

// Read takes one of the packets that have come back; EAGAIN if there is none.
func (m *Mirror) Read(buf []byte) (int, error) { return unix.Read(m.socket, buf) }

// Close removes both ends.
func (m *Mirror) Close() error {
	err := m.pair.close()
	if m.socket < 0 {
		return err
	}
	return errors.Join(err, overrun(m.socket), unix.Close(m.socket))
}
