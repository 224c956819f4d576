package contract

import (
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	for _, tt := range []struct{ have, want string }{
		{Count(0, "packet"), "0 packets"},
		{Count(uint64(1), "packet"), "1 packet"},
		{Count(uint32(2), "packet"), "2 packets"},
		{Count(1, "packet was", "packets were"), "1 packet was"},
		{Count(3, "packet was", "packets were"), "3 packets were"},
	} {
		if tt.have != tt.want {
			t.Errorf("have %q, want %q", tt.have, tt.want)
		}
	}
}

// TestOneIsNoPlural: what is most often found is one packet.
func TestOneIsNoPlural(t *testing.T) {
	one := &Books{Offered: 1, Drops: map[string]uint64{"FULL_RING@tun_net_xmit": 1}, Quiet: map[string]uint64{"consume_skb@f": 1}}
	_, tail := Stock.NoqueueDrops(&Seen{Books: &Books{Offered: 1, Drops: one.Drops, DeviceTxDropped: 1}, Pressed: true})
	_, none := Stock.NoqueueDrops(&Seen{Books: &Books{Offered: 1}, Pressed: true})
	_, wrong := Lossless.Breach(&Seen{Books: &Books{Offered: 1}, Wrong: 1})
	_, uncounted := Lossless.Breach(&Seen{Books: one})
	stops := uint64(1)
	_, _, allowed := RareDrop.tailDrops(&Seen{Books: one, Overlap: 2, Stops: &stops})
	for _, text := range []string{
		tail, none, wrong, uncounted, allowed, one.Silent(),
		(&Queue{Ring: -1, Backlog: 1}).String(), (&Queue{Ring: 1, Size: 1}).String(),
		(&Books{Foreign: 1, Refused: 1}).Balance().Error(),
	} {
		for _, plural := range []string{"1 packets", "1 of 1 packets", "1 skbs", "1 stops", "1 packet were"} {
			if strings.Contains(text, plural) {
				t.Errorf("%q: %q", plural, text)
			}
		}
	}
}
