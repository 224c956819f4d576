package traffic

import "math/bits"

// These bound the sequence numbers that a tally keeps track of, and so its
// memory; no run sends nearly as many.
const (
	maxSeq       = 1 << 28
	maxPktgenSeq = 1 << 25
)

// tally is what one reader received from one source.
type tally struct {
	received   uint64 // distinct packets
	duplicated uint64
	reordered  uint64
	// seen has a bit for each sequence number.
	seen []uint64
	// attempts holds the last attempt seen of each of pktgen's sequence
	// numbers: see arrival.
	attempts []uint16
	// flows counts packets, and last is the highest sequence number plus
	// one, of each flow.
	flows []uint64
	last  []uint64
}

// add records one packet.
func (t *tally) add(a *arrival) {
	word, bit := int(a.Seq/64), uint64(1)<<(a.Seq%64)
	if word >= len(t.seen) {
		t.seen = append(t.seen, make([]uint64, word+64)...)
	}
	if int(a.Flow) >= len(t.flows) {
		grow := make([]uint64, int(a.Flow)+1-len(t.flows))
		t.flows, t.last = append(t.flows, grow...), append(t.last, grow...)
	}
	repeated := t.seen[word]&bit != 0
	if a.pktgen {
		if int(a.Seq) >= len(t.attempts) {
			t.attempts = append(t.attempts, make([]uint16, int(a.Seq)+4096)...)
		}
		repeated = repeated && t.attempts[a.Seq] == a.attempt
		t.attempts[a.Seq] = a.attempt
	}
	t.seen[word] |= bit
	if repeated {
		t.duplicated++
		return
	}
	t.received++
	t.flows[a.Flow]++
	if a.Seq+1 < t.last[a.Flow] {
		t.reordered++
	} else {
		t.last[a.Flow] = a.Seq + 1
	}
}

// merge adds what another reader received. Order is each reader's own affair.
func (t *tally) merge(o *tally) {
	t.duplicated += o.duplicated
	t.reordered += o.reordered
	t.received += o.received
	if len(o.seen) > len(t.seen) {
		t.seen = append(t.seen, make([]uint64, len(o.seen)-len(t.seen))...)
	}
	if len(o.attempts) > len(t.attempts) {
		t.attempts = append(t.attempts, make([]uint16, len(o.attempts)-len(t.attempts))...)
	}
	for i, word := range o.seen {
		for both := t.seen[i] & word; both != 0; both &= both - 1 {
			seq := i*64 + bits.TrailingZeros64(both)
			if seq < len(o.attempts) && o.attempts[seq] != t.attempts[seq] {
				continue
			}
			t.received--
			t.duplicated++
		}
		t.seen[i] |= word
		if len(o.attempts) == 0 {
			continue
		}
		for left := word; left != 0; left &= left - 1 {
			seq := i*64 + bits.TrailingZeros64(left)
			t.attempts[seq] = o.attempts[seq]
		}
	}
	if len(o.flows) > len(t.flows) {
		t.flows = append(t.flows, make([]uint64, len(o.flows)-len(t.flows))...)
	}
	for flow, n := range o.flows {
		t.flows[flow] += n
	}
}

// Range is the sequence numbers from First to Last.
type Range struct{ First, Last uint64 }

// missing returns the ranges between first and last that were not seen, at
// most limit of them.
func (t *tally) missing(first, last uint64, limit int) []Range {
	var ranges []Range
	for seq := first; seq <= last; seq++ {
		if word := seq / 64; word < uint64(len(t.seen)) && t.seen[word]&(1<<(seq%64)) != 0 {
			continue
		}
		if n := len(ranges); n > 0 && ranges[n-1].Last+1 == seq {
			ranges[n-1].Last = seq
			continue
		}
		if len(ranges) == limit {
			break
		}
		ranges = append(ranges, Range{seq, seq})
	}
	return ranges
}
