package stage

import (
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

func TestAStoppedQueueWithoutQdiscIsSeenOnAnyKernel(t *testing.T) {
	for _, test := range []struct {
		path string
		want contract.Promise
	}{
		{"NOT_SPECIFIED@__dev_queue_xmit", contract.NoqueueDrops},
		{"NOT_SPECIFIED@kfree_skb_list_reason", contract.NoqueueDrops},
		{"RECURSION_LIMIT@__dev_queue_xmit", contract.NoqueueDrops},
		{"FULL_RING@tun_net_xmit", ""},
		{"DEV_READY@__dev_queue_xmit", ""},
	} {
		lost := newLosses()
		lost.add(lost.drops, map[string]uint64{test.path: 1})
		r := new(Result)
		r.close(account{offered: 3, received: 2}, lost, 0)
		r.Noqueue, r.CountersUnread = true, true
		if have, why := contract.Lossless.Breach(&r.Seen); have != test.want || r.Unbalanced != nil {
			t.Errorf("%s: have %q (%s), %v, want %q", test.path, have, why, r.Unbalanced, test.want)
		}
	}
}

func TestAQuietFreeBreaksEveryContract(t *testing.T) {
	for qdisc, want := range map[netdev.Kind]contract.Promise{netdev.Noqueue: contract.NoqueueDrops, netdev.FQCodel: contract.NoTailDrop} {
		lost := newLosses()
		lost.add(lost.quiet, map[string]uint64{"consume_skb@tun_net_xmit": 1})
		r := new(Result)
		r.close(account{offered: 3, received: 2}, lost, 0)
		r.Noqueue, r.CountersUnread = qdisc == netdev.Noqueue, true
		for _, c := range []contract.Contract{contract.Stock, contract.Lossless, contract.RareDrop} {
			have, why := c.Breach(&r.Seen)
			if have != want || r.Unbalanced != nil {
				t.Errorf("%s, %s: have %q (%s), %v, want %q", qdisc, c, have, why, r.Unbalanced, want)
			}
		}
	}
}
