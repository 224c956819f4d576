package inject

// Target is a driver's function that is held up, with all that it calls in the
// driver.
type Target struct {
	Root string
	// Consumer: it reads the ring. Else it is the driver's transmit.
	Consumer bool
}

// Targets are those of tun and tap (drivers/net/tun.c: tun_netdev_ops,
// tap_netdev_ops, tun_fops).
func Targets() []Target {
	return []Target{
		{Root: "tun_net_xmit"},
		{Root: "tun_chr_read_iter", Consumer: true},
	}
}

// Lefts are what a ring of that size can hold when a consumer reads (see
// Schedule.Left) and tells apart: the last packet, the one with which half of
// a full ring has been consumed, and the first of a full ring.
func Lefts(ring int) []int {
	switch ring {
	case 1:
		return []int{1}
	case 2:
		return []int{1, 2}
	}
	return []int{1, ring - ring/2 + 1, ring}
}
