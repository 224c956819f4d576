package inject

import "github.com/ringproof/ringproof/internal/guest/netdev"

// Opponent is what the other side does while one is held up.
type Opponent struct {
	// Name is its part of a schedule's id, Does what it does, in words.
	Name, Does string
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
	// MinRing is the smallest ring that it makes sense with.
	MinRing int
	// Reads: it needs a consumer that reads the queue itself.
	Reads bool

	// prepare is done before the ring is filled, and follow when both sides
	// are done, whether the opponent has acted or not.
	prepare, follow func(*Stage) error
	act             func(*Stage) error
	// undo brings the stage back to what it was.
	undo func(*Stage) error
	// fills: it can take the room that a transmit which is held up was let
	// through for.
	fills bool
	// tailDrops: by what it does a ring drops lawfully, with a qdisc too.
	tailDrops bool
}

// Opponents returns all there are. A new one needs nothing but its entry here.
func Opponents() []*Opponent {
	resize := func(length func(*Stage) int) func(*Stage) error {
		return func(s *Stage) error { return s.dev.SetTxQueueLen(length(s)) }
	}
	original := resize(func(s *Stage) int { return s.Ring })
	return []*Opponent{
		{Name: "drain-all", Does: "the consumer reads all that is there", act: func(s *Stage) error {
			_, err := s.drain(all)
			return err
		}},
		{Name: "drain-one", Does: "the consumer reads one packet", act: func(s *Stage) error {
			_, err := s.drain(1)
			return err
		}},
		{Name: "drain-half", Does: "the consumer reads half a ring", MinRing: 4, act: func(s *Stage) error {
			_, err := s.drain(s.Ring / 2)
			return err
		}},
		{Name: "drain-bad", Does: "the consumer reads all that is there into memory that is not", Reads: true, act: func(s *Stage) error {
			return s.readBad(all)
		}},
		{Name: "second-fills", Does: "a second producer, past the qdisc, fills the ring", Waits: true, fills: true, act: (*Stage).overrun},
		{Name: "reattach", Does: "TUNSETQUEUE: the queue is detached and attached", Control: true, Waits: true, act: func(s *Stage) error {
			if err := s.dev.Detach(s.queue); err != nil {
				return err
			}
			return s.dev.Attach(s.queue)
		}},
		{Name: "reopen", Does: "the queue of a persistent device is closed, and opened again", Control: true, Waits: true, Reads: true, act: (*Stage).reopen},
		{Name: "grow", Does: "tx_queue_len is doubled", Control: true, Waits: true, act: resize(func(s *Stage) int { return 2 * s.Ring }), undo: original},
		{Name: "shrink", Does: "tx_queue_len is halved", Control: true, Waits: true, MinRing: 2, fills: true, act: resize(func(s *Stage) int { return s.Ring / 2 }), undo: original},
		{Name: "zero", Does: "tx_queue_len is set to 0, a packet is sent past the qdisc, and tx_queue_len is set back", Control: true, Waits: true, tailDrops: true, act: func(s *Stage) error {
			if err := s.dev.SetTxQueueLen(0); err != nil {
				return err
			}
			if _, err := s.second.Send(); err != nil {
				return err
			}
			return original(s)
		}},
		{Name: "replace-qdisc", Does: "the root qdisc is replaced by a pfifo", Control: true, Waits: true, act: func(s *Stage) error {
			return s.dev.SetQdisc(netdev.Qdisc{Kind: netdev.Pfifo, Limit: 1000})
		}, undo: func(s *Stage) error {
			return s.dev.SetQdisc(netdev.Qdisc{Kind: s.Qdisc})
		}},
		{Name: "link-cycle", Does: "the link goes down and up", Control: true, Waits: true, act: func(s *Stage) error {
			if err := s.dev.SetUp(false); err != nil {
				return err
			}
			return s.dev.SetUp(true)
		}},

		{Name: "send-one", Does: "a producer sends one packet", Producer: true, act: func(s *Stage) error { return s.fill(1) }},
		{Name: "send-three", Does: "a producer sends three packets", Producer: true, act: func(s *Stage) error { return s.fill(3) }},
		{Name: "fill", Does: "a producer fills the ring, and more", Producer: true, act: func(s *Stage) error { return s.fill(s.Ring + 2) }},
		{Name: "overrun", Does: "a producer past the qdisc sends until it is refused or dropped", Producer: true, fills: true, act: (*Stage).overrun},
		{Name: "supplant", Does: "the queue is detached, and another one, whose ring is full, takes its place and its txq", Producer: true, Control: true, Waits: true, Reads: true,
			prepare: (*Stage).standBy, act: (*Stage).giveWay, follow: (*Stage).takeOver},
	}
}

// overrun sends two packets past the qdisc: into a ring that is one short of
// full, one more than it holds.
func (s *Stage) overrun() error {
	for range 2 {
		if _, err := s.second.Send(); err != nil {
			return err
		}
	}
	return nil
}
