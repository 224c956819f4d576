package traffic

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// Arrivals is what a Consumer received, in packets.
type Arrivals struct {
	// Received counts packets of the sources, each once, corrupted ones
	// included.
	Received uint64
	// Duplicated packets arrived before: same source and sequence.
	Duplicated uint64
	// Reordered packets came after a later one of the same flow to the same
	// reader.
	Reordered uint64
	// Corrupted packets came from a source's port to a flow's, but are not
	// byte for byte what was sent.
	Corrupted uint64
	// Foreign packets are no source's.
	Foreign uint64
	// Queues counts all that arrived on each queue.
	Queues []uint64
	// Evidence describes the first bad packets, with a hex dump of each.
	Evidence []string

	tallies [MaxSources]*tally
}

// Arrivals adds up what the readers received so far. They pause meanwhile.
func (c *Consumer) Arrivals() *Arrivals {
	c.control.Lock()
	defer c.control.Unlock()
	before := c.want.Load()
	if before == reading {
		c.ask(pausing)
		defer c.ask(reading)
	}
	arrivals := &Arrivals{Queues: make([]uint64, len(c.fds))}
	for _, r := range c.readers {
		r.source.collect(&r.spool)
	}
	c.check()
	for _, r := range c.readers {
		s := &r.sink
		arrivals.Queues[s.queue] += r.spool.in.Load()
		arrivals.add(s)
	}
	return arrivals
}

// add adds what one reader received.
func (r *Arrivals) add(s *sink) {
	r.Corrupted += s.corrupted
	r.Foreign += s.foreign
	r.Evidence = append(r.Evidence, s.evidence...)
	r.Received += s.corrupted
	for source, t := range s.tallies {
		if t == nil {
			continue
		}
		if r.tallies[source] == nil {
			r.tallies[source] = new(tally)
		}
		sum := r.tallies[source]
		before := *sum
		sum.merge(t)
		r.Received += sum.received - before.received
		r.Duplicated += sum.duplicated - before.duplicated
		r.Reordered += sum.reordered - before.reordered
	}
}

// Source returns how many packets arrived intact from a source, each counted
// once, and how many of these on each flow up to the highest that was seen.
func (r *Arrivals) Source(id uint8) (received uint64, flows []uint64) {
	if t := r.tallies[id]; t != nil {
		return t.received, slices.Clone(t.flows)
	}
	return 0, nil
}

// Missing returns which packets of a source did not arrive intact, from
// sequence number first to last, at most limit ranges.
func (r *Arrivals) Missing(id uint8, first, last uint64, limit int) []Range {
	t := r.tallies[id]
	if t == nil {
		t = new(tally)
	}
	return t.missing(first, last, limit)
}

// Enter writes them into the books.
func (r *Arrivals) Enter(b *contract.Books) {
	b.Received += r.Received
	b.Duplicated += r.Duplicated
	b.Reordered += r.Reordered
	b.Corrupted += r.Corrupted
	b.Foreign += r.Foreign
}

func (r *Arrivals) String() string {
	s := fmt.Sprintf("received %d, duplicated %d, reordered %d, corrupted %d, foreign %d", r.Received, r.Duplicated, r.Reordered, r.Corrupted, r.Foreign)
	if len(r.Evidence) > 0 {
		s += "\n" + strings.Join(r.Evidence, "\n")
	}
	return s
}
