package inject

import "github.com/ringproof/ringproof/internal/guest/vhost"

// Target is a driver's function that is held up, with all that it calls in the
// driver.
type Target struct {
	Root string
	// Consumer: it reads the ring. Else it is the driver's transmit.
	Consumer bool
	// Vhost: vhost-net's worker consumes, on either side.
	Vhost bool

	also []string // prefixes of what else is the driver's
}

// Targets are those of tun and tap (drivers/net/tun.c: tun_netdev_ops,
// tap_netdev_ops, tun_fops), and of vhost-net as far as it takes packets from
// tap's ring and waits for more (drivers/vhost/net.c, and vhost_poll_* of
// vhost.c). What it does with a packet that it has is the virtqueue's affair.
func Targets() []Target {
	return []Target{
		{Root: "tun_net_xmit"},
		{Root: "tun_chr_read_iter", Consumer: true},
		{Root: "tun_net_xmit", Vhost: true},
		{Root: "handle_rx", Consumer: true, Vhost: true, also: []string{"vhost_net_", "vhost_poll_", "peek_head_len", "get_rx_bufs", "tun_"}},
	}
}

// Functions are those that are held up. A kernel without vhost-net, if it takes
// that, is a *kernelfeature.MissingError.
func (t Target) Functions() ([]*Function, error) {
	if t.Vhost {
		if err := vhost.Available(); err != nil {
			return nil, err
		}
	}
	return Reach(t.Root, t.also...)
}

// Lefts are what a ring of that size can hold when a consumer reads (see
// Schedule.Left) and tells apart: nothing, the last packet, the one with which
// half of a full ring has been consumed, and the first of a full ring. Rings of
// all sizes are alike when they are empty.
func Lefts(ring int) []int {
	switch ring {
	case 1:
		return []int{1}
	case 2:
		return []int{0, 1, 2}
	}
	return []int{1, ring - ring/2 + 1, ring}
}
