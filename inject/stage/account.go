package stage

import (
	"errors"
	"maps"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/ledger"
)

// account is how the counts of a stage stand.
type account struct {
	offered, unallocated, refused, received, wrong uint64
}

func (s *Stage) account() account {
	a := account{received: s.receiver.Received() + s.dev.Discarded(), wrong: s.receiver.Wrong()}
	for _, sender := range s.senders() {
		c := sender.Counts()
		a.offered += c.Offered
		a.unallocated += c.Unallocated
		a.refused += c.Refused
	}
	return a
}

func (a account) since(b account) account {
	return account{
		offered: a.offered - b.offered, unallocated: a.unallocated - b.unallocated, refused: a.refused - b.refused,
		received: a.received - b.received, wrong: a.wrong - b.wrong,
	}
}

// allocated is how many packets became an skb.
func (a account) allocated() uint64 { return a.offered - a.unallocated }

// books is the account of one schedule.
func (a account) books(lost *losses, left int) *contract.Books {
	return &contract.Books{
		Offered: a.offered, Unallocated: a.unallocated, Refused: a.refused, Received: a.received,
		Drops: lost.drops, Quiet: lost.quiet, LeftQdisc: uint64(left),
	}
}

// losses are the packets of one schedule that were freed: as dropped, and
// quietly.
type losses struct {
	drops, quiet map[string]uint64
	// total of both.
	total uint64
}

func newLosses() *losses {
	return &losses{drops: make(map[string]uint64), quiet: make(map[string]uint64)}
}

// add adds to one of both, and says whether there was anything to add.
func (l *losses) add(to, freed map[string]uint64) bool {
	for key, n := range freed {
		to[key] += n
		l.total += n
	}
	return len(freed) > 0
}

// freed returns what was dropped since it was last called, by "REASON@function".
func (s *Stage) freed() (map[string]uint64, error) {
	freed, err := s.ledger.Freed()
	if err != nil {
		return nil, err
	}
	now := make(map[string]uint64)
	for _, f := range freed {
		now[f.Reason+"@"+f.Function] += f.Count
	}
	since := beyond(now, s.drops)
	s.drops = now
	return since, nil
}

// freedQuietly returns what was freed quietly since it was last called, if that
// is why so many packets are nowhere. Nothing may move any more.
func (s *Stage) freedQuietly(missing int64) (map[string]uint64, error) {
	for _, n := range s.quiet {
		missing += int64(n)
	}
	// That it does not add up is for the books to say.
	now, err := s.ledger.Quiet(s.account().received, missing)
	if mismatch := (*ledger.MismatchError)(nil); err != nil && !errors.As(err, &mismatch) {
		return nil, err
	}
	if len(now) == 0 {
		return nil, nil
	}
	since := beyond(now, s.quiet)
	s.quiet = now
	return since, nil
}

// beyond is by how much the counts are higher than they were.
func beyond[K comparable](now, before map[K]uint64) map[K]uint64 {
	since := maps.Clone(now)
	for key, n := range before {
		if since[key] -= n; since[key] == 0 {
			delete(since, key)
		}
	}
	return since
}
