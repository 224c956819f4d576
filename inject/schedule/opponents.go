package schedule

import (
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// Nothing is the opponent that does nothing: with it, a schedule tells whether
// its instruction is reached at all.
var Nothing = &driver.Opponent{Name: "nothing", Does: "nobody does anything", Act: func(driver.Bench) error { return nil }}

// NothingSent is Nothing against a consumer.
var NothingSent = &driver.Opponent{Name: "nothing-sent", Does: "nobody does anything", Producer: true, Act: func(driver.Bench) error { return nil }}

// Opponents returns all there are for a driver's devices: those that any device
// has, and the driver's own. A new one needs nothing but its entry.
func Opponents(drv *driver.Driver) []*driver.Opponent {
	drain := func(packets func(driver.Bench) int) func(driver.Bench) error {
		return func(b driver.Bench) error {
			_, err := b.Drain(packets(b))
			return err
		}
	}
	send := func(packets int) func(driver.Bench) error {
		return func(b driver.Bench) error { return b.Fill(packets) }
	}
	// Into a ring that is one short of full, one more than it holds.
	overrun := func(b driver.Bench) error { return b.Bypass(2) }
	return append([]*driver.Opponent{
		{Name: "drain-all", Does: "the consumer reads all that is there", Act: drain(func(driver.Bench) int { return driver.All })},
		{Name: "drain-one", Does: "the consumer reads one packet", Act: drain(func(driver.Bench) int { return 1 })},
		{Name: "drain-half", Does: "the consumer reads half a ring", MinRing: 4, Act: drain(func(b driver.Bench) int { return b.Device().Slots() / 2 })},
		{Name: "second-fills", Does: "a second producer, past the qdisc, fills the ring", Waits: true, Fills: true, Act: overrun},
		{Name: "replace-qdisc", Does: "the root qdisc is replaced by a pfifo", Control: true, Waits: true, Act: func(b driver.Bench) error {
			return b.Device().Link().SetQdisc(netdev.Qdisc{Kind: netdev.Pfifo, Limit: 1000})
		}, Undo: func(b driver.Bench) error {
			return b.Device().Link().SetQdisc(netdev.Qdisc{Kind: b.Qdisc()})
		}},
		{Name: "link-cycle", Does: "the link goes down and up", Control: true, Waits: true, Act: func(b driver.Bench) error {
			if err := b.Device().Link().SetUp(false); err != nil {
				return err
			}
			return b.Device().Link().SetUp(true)
		}},

		{Name: "send-one", Does: "a producer sends one packet", Producer: true, Act: send(1)},
		{Name: "send-three", Does: "a producer sends three packets", Producer: true, Act: send(3)},
		{Name: "fill", Does: "a producer fills the ring, and more", Producer: true, Act: func(b driver.Bench) error { return b.Fill(b.Device().Slots() + 2) }},
		{Name: "overrun", Does: "a producer past the qdisc sends until it is refused or dropped", Producer: true, Fills: true, Act: overrun},
	}, drv.Opponents()...)
}
