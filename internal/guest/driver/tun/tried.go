package tun

import (
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// tried: what a ring does depends on its size, and on whether there is a qdisc. That all
// qdiscs are alike is tried with the rings that cost little.
var tried = []driver.Tried{
	{Consumer: Reading, Rings: []int{2}, Qdiscs: []netdev.Kind{netdev.FQCodel}},
	{Consumer: Reading, Rings: []int{1, 2, 16}, Qdiscs: four, When: driver.Usual},
	{Consumer: Reading, Rings: []int{500}, Qdiscs: []netdev.Kind{netdev.FQCodel}, When: driver.Usual},
	{Consumer: Vhost, Rings: []int{2}, Qdiscs: []netdev.Kind{netdev.FQCodel}, When: driver.Usual},
	{Consumer: Vhost, Rings: []int{2}, Qdiscs: []netdev.Kind{netdev.Noqueue}, When: driver.Everything},
	// The worker takes 64 packets, and so not all of these at once
	// (drivers/vhost/net.c: VHOST_NET_BATCH).
	{Consumer: Vhost, Rings: []int{100}, Qdiscs: []netdev.Kind{netdev.FQCodel}, When: driver.Everything},

	{Consumer: Reading, Rings: []int{2}, Qdiscs: []netdev.Kind{netdev.FQCodel, netdev.Noqueue}, Control: true, When: driver.Usual},
	{Consumer: Vhost, Rings: []int{2}, Qdiscs: []netdev.Kind{netdev.FQCodel}, Control: true, When: driver.Usual},
	{Consumer: Reading, Rings: []int{1, 2, 16, 500}, Qdiscs: four, Control: true, When: driver.Everything},
	{Consumer: Vhost, Rings: []int{2}, Qdiscs: []netdev.Kind{netdev.Noqueue}, Control: true, When: driver.Everything},
}

var four = []netdev.Kind{netdev.FQCodel, netdev.PfifoFast, netdev.MQ, netdev.Noqueue}
