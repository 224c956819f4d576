package traffic

import (
	"slices"
	"testing"
)

func tallyOf(seqs ...uint64) *tally {
	t := new(tally)
	for _, seq := range seqs {
		t.add(&arrival{Packet: Packet{Seq: seq}})
	}
	return t
}

func TestTallyTellsDuplicateFromReordered(t *testing.T) {
	for _, c := range []struct {
		seqs                            []uint64
		received, duplicated, reordered uint64
	}{
		{[]uint64{0, 1, 2, 3}, 4, 0, 0},
		{[]uint64{0, 2, 1, 3}, 4, 0, 1},
		{[]uint64{0, 1, 1, 2}, 3, 1, 0},
		{[]uint64{5, 5000, 100000}, 3, 0, 0},
		{[]uint64{3, 2, 1, 0}, 4, 0, 3},
	} {
		got := tallyOf(c.seqs...)
		if got.received != c.received || got.duplicated != c.duplicated || got.reordered != c.reordered {
			t.Errorf("%v: received %d, duplicated %d, reordered %d; want %d, %d, %d", c.seqs, got.received, got.duplicated, got.reordered, c.received, c.duplicated, c.reordered)
		}
	}
}

func TestFlowsMayOvertakeEachOther(t *testing.T) {
	tl := new(tally)
	for _, p := range []Packet{{Flow: 0, Seq: 2}, {Flow: 1, Seq: 1}, {Flow: 0, Seq: 4}, {Flow: 1, Seq: 3}} {
		tl.add(&arrival{Packet: p})
	}
	if tl.reordered != 0 || !slices.Equal(tl.flows, []uint64{2, 2}) {
		t.Errorf("reordered %d, flows %v; want 0, [2 2]", tl.reordered, tl.flows)
	}
}

func TestReadersOfOnePacketMakeADuplicate(t *testing.T) {
	a, b := tallyOf(0, 1, 2), tallyOf(2, 3)
	a.merge(b)
	if a.received != 4 || a.duplicated != 1 {
		t.Errorf("received %d, duplicated %d; want 4, 1", a.received, a.duplicated)
	}
}

// NET_XMIT_CN makes pktgen use a sequence number again for a packet that
// differs in its IP ID.
func TestPktgensRepeatedNumberIsNoDuplicate(t *testing.T) {
	packet := func(seq uint64, attempt uint16) *arrival {
		return &arrival{Packet: Packet{Seq: seq}, attempt: attempt, pktgen: true}
	}
	var a, b tally
	a.add(packet(7, 7))
	a.add(packet(7, 8))
	a.add(packet(7, 8))
	if a.received != 2 || a.duplicated != 1 {
		t.Errorf("one reader: received %d, duplicated %d; want 2, 1", a.received, a.duplicated)
	}
	b.add(packet(7, 9))
	a.merge(&b)
	if a.received != 3 || a.duplicated != 1 {
		t.Errorf("two readers: received %d, duplicated %d; want 3, 1", a.received, a.duplicated)
	}
}

func TestMissingRanges(t *testing.T) {
	got := tallyOf(0, 1, 5, 6, 9).missing(0, 12, 10)
	if want := []Range{{2, 4}, {7, 8}, {10, 12}}; !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if got := tallyOf().missing(3, 4, 1); !slices.Equal(got, []Range{{3, 4}}) {
		t.Errorf("missing of nothing %v, want [{3 4}]", got)
	}
}
