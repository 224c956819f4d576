package contract

import (
	"errors"
	"testing"
)

func TestNoTailDrop(t *testing.T) {
	clean := &Books{Offered: 100, Received: 100}
	dropped := &Books{Offered: 100, Received: 93, Drops: map[string]uint64{"FULL_RING@tun_net_xmit": 7}, DeviceTxDropped: 7}
	quiet := &Books{Offered: 100, Received: 89, Drops: dropped.Drops, DeviceTxDropped: 7, Quiet: map[string]uint64{"consume_skb@tun_net_xmit": 4}}
	stops := func(n uint64) *uint64 { return &n }
	for _, tt := range []struct {
		name     string
		contract Contract
		seen     Seen
		want     Outcome
	}{
		{"stock drops", Stock, Seen{Books: dropped, Pressed: true}, Kept},
		{"stock must be seen to drop", Stock, Seen{Books: clean, Pressed: true}, Broken},
		{"lossless loses nothing", Lossless, Seen{Books: clean, Pressed: true}, Kept},
		{"lossless may not drop", Lossless, Seen{Books: dropped, Pressed: true, Overlap: 4}, Broken},
		{"no pressure decides nothing", Lossless, Seen{Books: clean}, Undecided},
		{"books that do not balance decide nothing", Lossless, Seen{Books: clean, BooksErr: errors.New("x"), Pressed: true}, Undecided},
		{"twice is not exactly once", Lossless, Seen{Books: &Books{Duplicated: 1}, Pressed: true}, Broken},
		{"order is part of it", Lossless, Seen{Books: &Books{Reordered: 1}, Pressed: true}, Broken},
		{"byte for byte", Lossless, Seen{Books: &Books{Corrupted: 1}, Pressed: true}, Broken},
		{"rare-drop, one at a time", RareDrop, Seen{Books: dropped, Pressed: true, Overlap: 1}, Broken},
		{"rare-drop, within bounds", RareDrop, Seen{Books: dropped, Pressed: true, Overlap: 2, Stops: stops(7)}, Kept},
		{"rare-drop, beyond bounds", RareDrop, Seen{Books: dropped, Pressed: true, Overlap: 2, Stops: stops(6)}, Broken},
		{"rare-drop, stops unknown", RareDrop, Seen{Books: dropped, Pressed: true, Overlap: 2}, Undecided},
		{"a packet that is freed quietly is lost", RareDrop, Seen{Books: quiet, Pressed: true, Overlap: 2, Stops: stops(7)}, Broken},
		{"whatever drops are expected", Stock, Seen{Books: quiet, Pressed: true}, Broken},
		{"with and without pressure", Lossless, Seen{Books: quiet}, Broken},
		{"if the books are true", Lossless, Seen{Books: quiet, BooksErr: errors.New("x"), Pressed: true}, Undecided},
		{"opt-in without the flag is stock", OptIn, Seen{Books: dropped, Pressed: true, Overlap: 1}, Kept},
		{"opt-in with the flag is not", OptIn, Seen{Books: dropped, Pressed: true, Overlap: 1, Backpressure: true}, Broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, why := tt.contract.NoTailDrop(&tt.seen); got != tt.want {
				t.Errorf("%s: %s, want %s (%s)", tt.contract, got, tt.want, why)
			}
		})
	}
}

func TestNoqueueDrops(t *testing.T) {
	dropped := &Books{Offered: 100, Received: 93, Drops: map[string]uint64{"FULL_RING@tun_net_xmit": 7}, DeviceTxDropped: 7}
	for _, tt := range []struct {
		name string
		seen Seen
		want Outcome
	}{
		{"drops", Seen{Books: dropped, Pressed: true}, Kept},
		{"a full ring that drops nothing", Seen{Books: &Books{Offered: 100, Received: 100}, Pressed: true}, Broken},
		{"a stopped queue", Seen{Books: dropped, Pressed: true, AsksToQueue: 1}, Broken},
		{"a stopped queue, whatever the books say", Seen{Books: dropped, BooksErr: errors.New("x"), AsksToQueue: 1}, Broken},
		{"a drop that is not counted", Seen{Books: &Books{Offered: 100, Received: 93, Drops: dropped.Drops, DeviceTxDropped: 6}, BooksErr: errors.New("x"), Pressed: true}, Broken},
		{"no pressure", Seen{Books: dropped}, Undecided},
		{"a packet that is freed quietly", Seen{Books: &Books{Offered: 100, Received: 89, Drops: dropped.Drops, DeviceTxDropped: 7, Quiet: map[string]uint64{"consume_skb": 4}}, Pressed: true}, Broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, c := range []Contract{Stock, Lossless, RareDrop, OptIn} {
				if got, why := c.NoqueueDrops(&tt.seen); got != tt.want {
					t.Errorf("%s: %s, want %s (%s)", c, got, tt.want, why)
				}
			}
		})
	}
}

func TestTheWorstOutcomeWins(t *testing.T) {
	order := []Outcome{"", NotRun, Kept, Undecided, Broken}
	for i, a := range order {
		for j, b := range order {
			if a.Outweighs(b) != (i > j) {
				t.Errorf("%q outweighs %q: %v", a, b, i <= j)
			}
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range Contracts() {
		if got, err := Parse(string(c)); err != nil || got != c {
			t.Errorf("Parse(%q) = %q, %v", c, got, err)
		}
	}
	if got, err := Parse(""); err != nil || got != Auto {
		t.Errorf("Parse of nothing = %q, %v, want auto", got, err)
	}
	if _, err := Parse("losless"); err == nil {
		t.Error("a contract that does not exist was accepted")
	}
}
