package guest

import (
	"fmt"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
)

// TestRequeue has a driver that gives packets back give some back, and sees whether each
// arrives as it was sent, and whether the sender is told once that it was.
func TestRequeue(t *testing.T) { each(t, requeue) }

func requeue(t *testing.T) {
	if !subject.Refuses {
		t.Skip("left out: TestRequeueSchedules has the driver refuse packets")
	}
	for _, mode := range subject.Modes {
		if mode.Free || mode.Beside {
			continue
		}
		t.Run(mode.Name, func(t *testing.T) {
			r := newRig(t, rigConfig{mode: mode.Name, txQueue: 1000, qdisc: netdev.Qdisc{Kind: netdev.FQCodel}}, contract.RequeueIntact)
			r.giveBack()
		})
	}
}

// giveBack fills the ring, and sends more, again and again.
func (r *rig) giveBack() {
	r.t.Helper()
	s := r.sender(1, traffic.PacketSocket)
	if err := s.CountTimestamps(); err != nil {
		r.t.Fatal(err)
	}
	const times, more = 5, 3
	for range times {
		r.consumer.Pause()
		for range r.slots() + more {
			if _, err := s.Send(); err != nil {
				r.t.Fatal(err)
			}
		}
		r.press()
		r.race(r.consumer.Received() + uint64(r.slots()+more))
	}
	seen, stall, err := r.settled()
	if err != nil {
		r.t.Fatal(err)
	}
	stamps, err := s.Timestamps()
	if err != nil {
		r.t.Fatal(err)
	}
	twice, most := 0, 0
	for _, n := range stamps {
		if n > 1 {
			twice++
		}
		most = max(most, n)
	}
	outcome, why := contract.Kept, fmt.Sprintf("%d packets were given back, and each arrived as it was sent", seen.Books.QdiscRequeues)
	// Nobody else sends here: what is no source's was altered beyond recognition.
	wrong := seen.Wrong + seen.Books.Duplicated + seen.Books.Reordered + seen.Books.Corrupted + seen.Books.Foreign
	switch {
	case wrong > 0:
		outcome, why = contract.Broken, fmt.Sprintf("%d packets arrived twice, out of order or altered", wrong)
	case twice > 0:
		outcome, why = contract.Broken, fmt.Sprintf("of %d packets the sender was told more than once that the driver has sent them, up to %d times: %d packets were given back", twice, most, seen.Books.QdiscRequeues)
	case seen.BooksErr != nil:
		outcome, why = contract.Undecided, seen.BooksErr.Error()
	case stall != nil:
		outcome, why = contract.Undecided, stall.Error()
	case seen.Books.QdiscRequeues == 0:
		outcome, why = contract.Undecided, "no packet was given back"
	case len(stamps) == 0:
		outcome, why = contract.Undecided, "the driver tells no sender when it has sent a packet"
	}
	r.verdict(contract.RequeueIntact, outcome, why, seen.Books)
}
