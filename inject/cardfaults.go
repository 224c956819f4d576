package inject

import (
	"github.com/ringproof/ringproof/internal/guest/vhost"
)

// cardFaults are those of a virtqueue and its worker. While the card is plugged
// in "read" offers so many buffers, and reads what has arrived.
func cardFaults() []*Fault {
	offer := func(flaw vhost.Flaw) func(*Sequence, int) error {
		return func(s *Sequence, n int) error { return s.offer(n, flaw) }
	}
	return []*Fault{
		{Name: "unset the backend", do: func(s *Sequence, _ int) error { return s.stopCard() }},
		{Name: setTheBackend, do: func(s *Sequence, _ int) error { return s.startCard() }},
		{Name: replaceTheVirtqueue, do: func(s *Sequence, _ int) error { return s.whileStopped(s.stage.card.Replace) }},
		{Name: "offer buffers:", Arguments: []int{1, 3, 100}, do: offer(vhost.Sound)},
		{Name: "offer buffers and withhold the kick:", Arguments: []int{1, 100}, do: func(s *Sequence, n int) error {
			s.unkicked = s.stage.card.OfferUnkicked(n, vhost.Sound) || s.unkicked
			return nil
		}},
		{Name: kickTheWorker, do: func(s *Sequence, _ int) error {
			s.unkicked = false
			s.stage.card.Kick()
			return nil
		}},
		{Name: "offer buffers that are too small:", Arguments: []int{1, 3}, do: offer(vhost.Short)},
		{Name: "offer buffers that are not mapped:", Arguments: []int{1, 3}, do: offer(vhost.Unmapped)},
		{Name: "offer buffers that are not there:", Arguments: []int{1, 3}, do: offer(vhost.Absent)},
	}
}

// Names of the faults that Settle needs.
const (
	setTheBackend       = "set the backend"
	replaceTheVirtqueue = "replace the virtqueue"
	kickTheWorker       = "kick the worker"
)

// cardUndo names what makes a card work again.
func (q *Sequence) cardUndo() (undo []string) {
	if q.stage.card == nil {
		return nil
	}
	if q.flawed {
		undo = append(undo, replaceTheVirtqueue)
	}
	if !q.stage.plugged {
		undo = append(undo, setTheBackend)
	}
	if q.unkicked {
		undo = append(undo, kickTheWorker)
	}
	return undo
}

func (q *Sequence) offer(n int, flaw vhost.Flaw) error {
	// The worker looks at them in turn, and gets past none that has a flaw.
	q.flawed = q.flawed || flaw != vhost.Sound
	if q.stage.card.OfferUnkicked(n, flaw) {
		q.stage.card.Kick()
		q.unkicked = false
	}
	return nil
}

// startCard sets the backend, unless the queue is detached: then Settle does,
// once it is attached.
func (q *Sequence) startCard() error {
	if !q.attached {
		return nil
	}
	q.stage.plugged = true
	return q.stage.card.Start()
}

// stopCard unsets the backend and takes what has arrived until then: nobody
// would look for it in a vring that is replaced.
func (q *Sequence) stopCard() error {
	q.stage.plugged = false
	if err := q.stage.card.Stop(); err != nil {
		return err
	}
	q.flawed, q.unkicked = false, false
	for {
		if ok, err := q.stage.receiver.ReadBy(q.stage.card.Read); !ok || err != nil {
			return err
		}
	}
}

// whileStopped unsets the backend of a card if there is one, and sets it again
// if it was set.
func (q *Sequence) whileStopped(do func() error) error {
	if q.stage.card == nil {
		return do()
	}
	was := q.stage.plugged
	if err := q.stopCard(); err != nil {
		return err
	}
	if err := do(); err != nil || !was {
		return err
	}
	return q.startCard()
}

// resetCard plugs the card in, without buffers.
func (q *Sequence) resetCard() error {
	if q.stage.card == nil {
		return nil
	}
	if err := q.stopCard(); err != nil {
		return err
	}
	return q.startCard()
}
