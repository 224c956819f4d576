package schedule

import (
	"github.com/ringproof/ringproof/internal/contract"
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
		{Name: "drain-all", Who: contract.Consumer, Does: "reads all that is there", Act: drain(func(driver.Bench) int { return driver.All })},
		{Name: "drain-one", Who: contract.Consumer, Does: "reads one packet", Partial: true, Act: drain(func(driver.Bench) int { return 1 })},
		{Name: "drain-half", Who: contract.Consumer, Does: "reads half a ring", MinRing: 4, Partial: true, Act: drain(func(b driver.Bench) int { return b.Device().Slots() / 2 })},
		{Name: "second-fills", Who: contract.SecondProducer, Does: "fills the ring, past the qdisc", Waits: true, Fills: true, Act: overrun},
		{Name: "replace-qdisc", Who: contract.Control, Does: "the root qdisc is replaced by a pfifo", Control: true, Waits: true, Act: func(b driver.Bench) error {
			return b.Device().Link().SetQdisc(netdev.Qdisc{Kind: netdev.Pfifo, Limit: 1000})
		}, Undo: func(b driver.Bench) error {
			return b.Device().Link().SetQdisc(netdev.Qdisc{Kind: b.Qdisc()})
		}},
		{Name: "link-cycle", Who: contract.Control, Does: "the link goes down and up", Control: true, Waits: true, Act: func(b driver.Bench) error {
			if err := b.Device().Link().SetUp(false); err != nil {
				return err
			}
			return b.Device().Link().SetUp(true)
		}},

		{Name: "send-one", Who: contract.Producer, Does: "sends one packet", Producer: true, Act: send(1)},
		{Name: "send-three", Who: contract.Producer, Does: "sends three packets", Producer: true, Act: send(3)},
		{Name: "fill", Who: contract.Producer, Does: "fills the ring, and more", Producer: true, Act: func(b driver.Bench) error { return b.Fill(b.Device().Slots() + 2) }},
		{Name: "overrun", Who: contract.Producer, Does: "sends past the qdisc until it is refused or dropped", Producer: true, Fills: true, Act: overrun},
	}, drv.Opponents()...)
}
