package traffic

import (
	"encoding/hex"
	"fmt"
	"sync/atomic"
)

// evidenceLimit is how many bad packets each reader keeps.
const evidenceLimit = 4

// sink is what one reader received. It is guarded by the mutex of the reader's
// spool.
type sink struct {
	ethernet bool
	queue    int
	awaited  *atomic.Pointer[[]*Arrival]
	tallies  [MaxSources]*tally
	current  arrival

	corrupted, foreign uint64
	evidence           []string
}

// take records one packet.
func (s *sink) take(b []byte) {
	a := &s.current
	a.parse(b, s.ethernet)
	if a.wrong == "" && (a.Seq >= maxSeq || a.pktgen && a.Seq >= maxPktgenSeq) {
		a.wrong = "sequence number"
	}
	if a.wrong != "" {
		s.bad(a, b)
	} else {
		t := s.tallies[a.Source]
		if t == nil {
			t = new(tally)
			s.tallies[a.Source] = t
		}
		t.add(a)
		if awaited := s.awaited.Load(); awaited != nil {
			for _, w := range *awaited {
				w.offer(a.Packet, s.queue)
			}
		}
	}
}

func (s *sink) bad(a *arrival, b []byte) {
	what := "foreign"
	if a.foreign {
		s.foreign++
	} else {
		s.corrupted++
		what = fmt.Sprintf("corrupted, source %d flow %d", a.Source, a.Flow)
	}
	if len(s.evidence) < evidenceLimit {
		s.evidence = append(s.evidence, fmt.Sprintf("queue %d: %s (%s), %d bytes:\n%s", s.queue, what, a.wrong, len(b), hex.Dump(b[:min(len(b), 128)])))
	}
}
