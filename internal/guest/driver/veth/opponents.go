package veth

import (
	"errors"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// opponents change the far end, against a transmit that is held up and, under a name that
// ends in -polling, against a poll. Most need NAPI to come to rest, and wait for an RCU
// grace period then: for the one that is held up, whatever it is at.
func opponents() (all []*driver.Opponent) {
	// renewed: what has arrived until now came from a ring that is gone.
	renewed := func(b driver.Bench, do ...error) error {
		do = append(do, b.Collect())
		b.RenewedEmpty()
		return errors.Join(do...)
	}
	add := func(only []driver.Consumer, name, does string, act func(driver.Bench, *device) error) {
		for _, producer := range []bool{false, true} {
			o := &driver.Opponent{Name: name, Who: contract.Control, Does: does, Producer: producer, Control: true, Waits: true, Only: only,
				Act: func(b driver.Bench) error {
					d := of(b)
					// What has packets to poll and is held up never comes to rest.
					return errors.Join(d.Hold(false), act(b, d), d.find())
				}}
			if producer {
				o.Name += "-polling"
			}
			all = append(all, o)
		}
	}
	gro, xdp := []driver.Consumer{GRO, Threaded}, []driver.Consumer{XDP}
	add(gro, "gro-cycle", "GRO of the far end is switched off and on", func(b driver.Bench, d *device) error {
		return renewed(b, d.setGRO(false), d.setGRO(true))
	})
	add(gro, "xdp-and-back", "an XDP program is attached to the far end, and removed", func(_ driver.Bench, d *device) error {
		return errors.Join(d.attach(always(xdpPass)), d.detach())
	})
	add(xdp, "xdp-cycle", "the XDP program of the far end is removed, and one attached", func(b driver.Bench, d *device) error {
		return renewed(b, d.detach(), d.attach(always(xdpPass)))
	})
	add(xdp, "xdp-replace", "the XDP program of the far end is replaced by another", func(_ driver.Bench, d *device) error {
		return d.attach(always(xdpPass))
	})
	add(nil, "far-cycle", "the far end goes down and up", func(b driver.Bench, d *device) error {
		return renewed(b, d.far.SetUp(false), d.far.SetUp(true))
	})
	add(nil, "far-moves", "the far end is moved to another network namespace and back", func(b driver.Bench, d *device) error {
		return renewed(b, d.far.MoveThroughNamespace(), d.far.SetUp(true), d.relisten(b))
	})
	add(nil, "near-moves", "the near end is moved to another network namespace and back", func(b driver.Bench, d *device) error {
		return errors.Join(d.near.MoveThroughNamespace(), d.near.SetUp(true), d.near.SetQdisc(netdev.Qdisc{Kind: d.setup.Qdisc}))
	})
	for _, o := range all[len(all)-2:] {
		o.Follow = driver.Bench.Reopen
	}
	add(nil, "far-queues", "the far end uses a receive queue more, and one fewer again", func(_ driver.Bench, d *device) error {
		return errors.Join(setChannels(d.far.Name(), 2, 1), setChannels(d.far.Name(), 1, 1))
	})
	// An XDP program wants a receive queue for each txq.
	add(gro, "near-queues", "the near end uses a txq more, and one fewer again", func(_ driver.Bench, d *device) error {
		return errors.Join(setChannels(d.near.Name(), 1, 2), setChannels(d.near.Name(), 1, 1))
	})
	add(nil, "mtu", "the MTU of the near end is changed, and changed back", func(_ driver.Bench, d *device) error {
		return errors.Join(d.near.SetMTU(1400), d.near.SetMTU(1500))
	})
	add([]driver.Consumer{Threaded}, "threads-cycle", "NAPI of the far end loses its threads, and gets them back", func(_ driver.Bench, d *device) error {
		return errors.Join(setThreaded(d.far.Name(), false), setThreaded(d.far.Name(), true))
	})
	return all
}
