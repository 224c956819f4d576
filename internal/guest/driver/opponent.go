package driver

import (
	"slices"

	"github.com/ringproof/ringproof/internal/contract"
)

// Opponent is what the other side does while one is held up.
type Opponent struct {
	// Name is its part of a schedule's id.
	Name string
	// Who is who acts: contract.Consumer, Producer, SecondProducer, or Control if it
	// changes the device. "" is nobody.
	Who string
	// Does says what the opponent does: "reads one packet", or a whole clause, "the
	// link goes down and up", where Who is Control or nobody.
	Does string
	// Producer: it acts against a consumer that is held up: it sends, or
	// changes the device. Else it reads, or changes the device, against a
	// producer.
	Producer bool
	// Control: it changes the device, and what is queued may be lost by it.
	Control bool
	// Waits: it is likely to wait in the kernel for the one that is held up,
	// for a lock or an RCU grace period. One that does so unexpectedly costs
	// the time for which a CPU is held up at most, once.
	Waits bool
	// Partial: it takes a few of the packets in the ring.
	Partial bool
	// MinRing is the smallest ring that it makes sense with.
	MinRing int
	// Only are the consumers that it needs one of; nil is any.
	Only []Consumer
	// Fills: it can take the room that a transmit which is held up was let
	// through for.
	Fills bool
	// TailDrops: by what it does a ring drops lawfully, with a qdisc too.
	TailDrops bool

	// Prepare is done before the ring is filled, and Follow when both sides are
	// done, whether the opponent has acted or not. Either may be nil.
	Prepare, Follow func(Bench) error
	Act             func(Bench) error
	// Undo brings the device back to what it was; nil if there is nothing to undo.
	Undo func(Bench) error
}

// Clause is what it does, as a clause.
func (o *Opponent) Clause() string {
	subject := map[string]string{
		contract.Consumer: "the consumer ", contract.Producer: "a producer ", contract.SecondProducer: "a second producer ",
	}
	return subject[o.Who] + o.Does
}

// Suits says whether the opponent makes sense in a setting.
func (o *Opponent) Suits(ring int, c Consumer) bool {
	return ring >= o.MinRing && (o.Only == nil || slices.Contains(o.Only, c))
}
