package veth

import (
	"errors"

	"github.com/ringproof/ringproof/internal/guest/driver"
	"golang.org/x/sys/unix"
)

// Those that undo needs.
var (
	takeTheFarEndUp = &driver.Fault{Name: "take the far end up", Do: func(b driver.Bench, _ int) error {
		return errors.Join(of(b).far.SetUp(true), of(b).find())
	}}
	makeNAPIAgain = &driver.Fault{Name: "have the far end use NAPI again", Do: func(b driver.Bench, _ int) error { return of(b).rest() }}
	letGo         = &driver.Fault{Name: "let NAPI go on", Do: func(b driver.Bench, _ int) error {
		b.Plug(true)
		of(b).worker.OfferUnkicked(0)
		return of(b).worker.Start()
	}}
)

func faults(driver.Consumer) []*driver.Fault {
	do := func(name string, act func(*device) error) *driver.Fault {
		return &driver.Fault{Name: name, Do: func(b driver.Bench, _ int) error {
			d := of(b)
			return errors.Join(act(d), d.find())
		}}
	}
	return []*driver.Fault{
		// What random faults seldom come to: a ring that is full, and a txq that is stopped.
		{Name: "hold NAPI up and stop the txq", Do: func(b driver.Bench, _ int) error {
			d := of(b)
			if up, err := d.near.IsUp(); err != nil || !up {
				return errors.Join(err, &driver.RefusedError{Why: "the link is down"})
			}
			if err := d.worker.Stop(); err != nil {
				return err
			}
			return b.Fill(d.Hand() + slots + 2)
		}},
		{Name: "hold NAPI up", Do: func(b driver.Bench, _ int) error { return of(b).worker.Stop() }},
		letGo,
		do("switch GRO of the far end off", func(d *device) error { return d.idle(func() error { return d.setGRO(false) }) }),
		do("switch GRO of the far end on", func(d *device) error { return d.setGRO(true) }),
		do("attach an XDP program", func(d *device) error { return d.attach(always(xdpPass)) }),
		do("remove the XDP program", func(d *device) error { return d.idle(d.detach) }),
		do("take the far end down", func(d *device) error { return d.idle(func() error { return d.far.SetUp(false) }) }),
		takeTheFarEndUp,
		do("take the threads of the far end away and give it new ones", func(d *device) error {
			return d.idle(func() error {
				return errors.Join(setThreaded(d.far.Name(), false), setThreaded(d.far.Name(), true))
			})
		}),
	}
}

// idle does something for which NAPI has to come to rest, which it cannot while its
// threads are held up. Where it has none, and puts off its polls, it is at rest.
func (d *device) idle(do func() error) error {
	if d.Inline() {
		return do()
	}
	held := d.holds()
	return errors.Join(d.Hold(false), do(), d.find(), d.Hold(held))
}

// rest has the far end use NAPI as it was made to.
func (d *device) rest() error {
	if d.setup.Consumer == XDP {
		return errors.Join(d.attach(always(xdpPass)), d.setGRO(false), d.find())
	}
	return errors.Join(d.setGRO(true), d.detach(), d.find())
}

// asMade says whether it does so.
func (d *device) asMade() bool {
	return d.gro == (d.setup.Consumer != XDP) && (d.attached != nil) == (d.setup.Consumer == XDP)
}

func undo(d *device) (steps []driver.Step) {
	if d.holds() {
		steps = append(steps, driver.Step{Fault: letGo})
	}
	if up, err := d.far.IsUp(); err == nil && !up {
		steps = append(steps, driver.Step{Fault: takeTheFarEndUp})
	}
	if !d.asMade() {
		steps = append(steps, driver.Step{Fault: makeNAPIAgain})
	}
	return steps
}

// restart begins anew: an empty ring of NAPI as it was made, which takes packets.
func restart(b driver.Bench, d *device) error {
	b.Plug(true)
	d.worker.OfferUnkicked(0)
	err := errors.Join(d.worker.Start(), d.far.SetUp(true), d.near.SetUp(true))
	if err == nil && !d.asMade() {
		err = d.rest()
	}
	return errors.Join(err, d.find())
}

// relisten opens the receive sockets anew, which a device needs that has been in another
// network namespace (net/packet/af_packet.c: packet_notifier).
func (d *device) relisten(b driver.Bench) error {
	if err := b.Collect(); err != nil {
		return err
	}
	for queue, old := range d.sockets {
		fd, err := listen(d.far.Ifindex(), queue)
		if err != nil {
			return err
		}
		d.sockets[queue] = fd
		if err := errors.Join(overrun(old), unix.Close(old)); err != nil {
			return err
		}
	}
	return nil
}
