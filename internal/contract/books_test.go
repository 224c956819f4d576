package contract

import (
	"encoding/json"
	"strings"
	"testing"
)

// balanced is an account of 100 packets.
func balanced() Books {
	return Books{
		Offered: 100, Unallocated: 5, Refused: 15, Received: 60, LeftRing: 2, LeftQdisc: 3,
		Drops: map[string]uint64{"FULL_RING@tun_net_xmit": 20, "FULL_RING@veth_xmit": 1, "QDISC_DROP@__dev_queue_xmit": 9},
	}
}

func TestBooksBalance(t *testing.T) {
	b := balanced()
	if err := b.Balance(); err != nil {
		t.Error(err)
	}
	if n := b.DropsFor(FullRing); n != 21 {
		t.Errorf("21 tail drops in two functions: have %d", n)
	}
	if n := b.Accepted(); n != 80 {
		t.Errorf("80 accepted: have %d", n)
	}
	const want = "offered 100 = accepted 80 + refused 20; accepted 80 = received 60 + lost 15 + left 5" +
		" (freed: FULL_RING@tun_net_xmit 20, FULL_RING@veth_xmit 1, QDISC_DROP@__dev_queue_xmit 9)"
	if s := b.String(); s != want {
		t.Errorf("have %q\nwant %q", s, want)
	}
}

func TestBooksNameWhatWasFreedQuietly(t *testing.T) {
	b := balanced()
	b.Received -= 4
	b.Quiet = map[string]uint64{"consume_skb@tun_net_xmit": 3, "consume_skb@tun_do_read": 1}
	if err := b.Balance(); err != nil {
		t.Error(err)
	}
	if s := b.String(); !strings.Contains(s, "received 56 + lost 19 + left 5") || !strings.HasSuffix(s, " (freed quietly: consume_skb@tun_do_read 1, consume_skb@tun_net_xmit 3)") {
		t.Errorf("have %q", s)
	}
	b.Received--
	if err := b.Balance(); err == nil || !strings.Contains(err.Error(), "dropped 30 + freed quietly 4 + left") {
		t.Errorf("have %v", err)
	}
}

func TestBooksThatDoNotBalanceSayWhy(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Books)
		want   string
	}{
		{"a packet is gone", func(b *Books) { b.Received-- }, "= 95, but received 59 + dropped 30 + left in ring 2 + left in qdisc 3 = 94"},
		{"one too many", func(b *Books) { b.LeftQdisc++ }, "= 95, but received 60 + dropped 30 + left in ring 2 + left in qdisc 4 = 96"},
		{"more refused than freed", func(b *Books) { b.Refused, b.Received, b.Drops = 15, 90, nil }, "15 refused after an skb was made, but only 0 skbs freed"},
		{"more refused than offered", func(b *Books) { b.Unallocated, b.Refused = 90, 20 }, "refused 110 > offered 100"},
		{"packets from nowhere", func(b *Books) { b.Foreign = 4 }, "4 packets arrived that no producer sent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := balanced()
			test.change(&b)
			if err := b.Balance(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("have %v, want %q", err, test.want)
			}
		})
	}
}

func TestBooksOfOlderVersions(t *testing.T) {
	var b Books
	if err := json.Unmarshal([]byte(`{"Offered":9,"Unborn":2,"Received":7}`), &b); err != nil || b.Unallocated != 2 || b.Received != 7 {
		t.Errorf("have %+v, %v", b, err)
	}
	data, err := json.Marshal(b)
	if err != nil || strings.Contains(string(data), "Unborn") {
		t.Errorf("have %s, %v", data, err)
	}
}
