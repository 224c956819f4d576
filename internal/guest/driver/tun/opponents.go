package tun

import (
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
)

func opponents() []*driver.Opponent {
	reading := []driver.Consumer{Reading}
	resize := func(slots func(d *device) int) func(driver.Bench) error {
		return func(b driver.Bench) error { return of(b).resize(slots(of(b))) }
	}
	original := resize(func(d *device) int { return d.setup.Ring })
	return []*driver.Opponent{
		{Name: "drain-bad", Who: contract.Consumer, Does: "reads all that is there into memory that is not", Only: reading, Act: func(b driver.Bench) error {
			return of(b).readBad(b, driver.All)
		}},
		{Name: "reattach", Who: contract.Control, Does: "TUNSETQUEUE: the queue is detached and attached", Control: true, Waits: true, Act: func(b driver.Bench) error {
			if err := of(b).detach(); err != nil {
				return err
			}
			return of(b).attach()
		}},
		{Name: "reopen", Who: contract.Control, Does: "the queue of a persistent device is closed, and opened again", Control: true, Waits: true, Only: reading, Act: func(b driver.Bench) error {
			return of(b).reopen(b)
		}},
		{Name: "grow", Who: contract.Control, Does: "tx_queue_len is doubled", Control: true, Waits: true, Act: resize(func(d *device) int { return 2 * d.setup.Ring }), Undo: original},
		{Name: "shrink", Who: contract.Control, Does: "tx_queue_len is halved", Control: true, Waits: true, MinRing: 2, Fills: true, Act: resize(func(d *device) int { return d.setup.Ring / 2 }), Undo: original},
		{Name: "zero", Who: contract.Control, Does: "tx_queue_len is set to 0, a packet is sent past the qdisc, and tx_queue_len is set back", Control: true, Waits: true, TailDrops: true, Act: func(b driver.Bench) error {
			if err := of(b).resize(0); err != nil {
				return err
			}
			if err := b.Bypass(1); err != nil {
				return err
			}
			return original(b)
		}},
		{Name: "supplant", Who: contract.Control, Does: "the queue is detached, and another one, whose ring is full, takes its place and its txq", Producer: true, Control: true, Waits: true, Only: reading,
			Prepare: func(b driver.Bench) error { return of(b).standBy(b) },
			Act:     func(b driver.Bench) error { return of(b).giveWay() },
			Follow:  func(b driver.Bench) error { return of(b).takeOver(b) }},
	}
}

// standBy opens a second queue and fills its ring: the queue that takes the
// place of the first, and its txq, when that is detached (drivers/net/tun.c:
// __tun_detach).
func (d *device) standBy(b driver.Bench) (err error) {
	if d.next, err = d.AddQueue(); err != nil {
		return err
	}
	if err := d.steer(1); err != nil {
		return err
	}
	if err := b.Bypass(d.slots); err != nil {
		return err
	}
	return d.steer(0)
}

// giveWay detaches the first queue.
func (d *device) giveWay() error {
	d.gone = true
	return d.Detach(d.queue)
}

// takeOver closes the first queue, and reads from the second from now on. Its
// ring is still full, so a packet that is sent now has to wait.
func (d *device) takeOver(b driver.Bench) error {
	if !d.gone {
		if err := d.giveWay(); err != nil {
			return err
		}
	}
	if err := d.CloseQueue(d.queue); err != nil {
		return err
	}
	d.queue, d.gone = d.next, false
	b.Renewed()
	return b.Fill(1)
}
