package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Books is the account of every packet of one run. All counts are packets.
//
// Two sentences tie them (see Balance):
//
//	offered  = accepted + refused
//	accepted = received + lost after acceptance + left in ring + left in qdisc
type Books struct {
	// Offered is how many packets the producers tried to send; an attempt
	// that was refused and made again counts once for each attempt.
	Offered uint64
	// Unallocated is how many of those failed before an skb reached the qdisc:
	// the socket's send buffer was full (EAGAIN).
	Unallocated uint64
	// Refused is how many were turned away to the sender's face after an skb
	// was made (ENOBUFS, or pktgen's errors): the qdisc or the driver freed
	// it, so each of them also appears in Drops.
	Refused uint64
	// Received is how many arrived at a consumer, each counted once.
	Received uint64
	// Drops counts freed skbs of the device under test, by what the
	// skb:kfree_skb tracepoint says: "REASON@function".
	Drops map[string]uint64
	// Quiet counts packets that were freed quietly: as delivered, by what the
	// skb:consume_skb tracepoint says, though nobody received them:
	// "consume_skb@function", or "consume_skb" where that is not known.
	Quiet map[string]uint64 `json:",omitempty"`
	// LeftRing and LeftQdisc are still queued when the run ends.
	LeftRing, LeftQdisc uint64

	// Duplicated, Reordered and Corrupted count arrivals that are wrong in
	// themselves: a sequence number seen before, one below its predecessor
	// on the same flow and reader, a payload that is not what was sent.
	Duplicated, Reordered, Corrupted uint64
	// Foreign counts arrivals that no producer sent. The device is set up so
	// that the kernel sends nothing of its own; these are an error.
	Foreign uint64

	// DeviceTxDropped is the device's own tx_dropped counter, QdiscDropped
	// and QdiscRequeues the sums over its qdiscs.
	DeviceTxDropped, QdiscDropped, QdiscRequeues uint64
	// Unknown are those keys of Drops that the ledger does not know, each
	// with every counter that may be the one which counts them, given what
	// the counters say.
	Unknown Paths `json:",omitempty"`
}

// UnmarshalJSON reads books, in which Unallocated once was Unborn.
func (b *Books) UnmarshalJSON(data []byte) error {
	type plain Books
	old := struct {
		*plain
		Unborn uint64
	}{plain: (*plain)(b)}
	err := json.Unmarshal(data, &old)
	b.Unallocated += old.Unborn
	return err
}

// Paths says of ways to free a packet, "REASON@function", which counters may
// count them.
type Paths map[string][]Counter

// Counter counts dropped packets.
type Counter string

const (
	// TxDropped is the device's tx_dropped.
	TxDropped Counter = "tx_dropped"
	// QdiscDrops are those that the qdisc counts.
	QdiscDrops Counter = "the qdisc's drops"
	// NoCounter: nothing counts them.
	NoCounter Counter = "nothing"
)

// FullRing is the part before "@" of a tail drop's key in Drops
// (include/net/dropreason-core.h: SKB_DROP_REASON_FULL_RING).
const FullRing = "FULL_RING"

// DropsFor sums Drops over the functions that freed skbs for that reason.
func (b *Books) DropsFor(reason string) uint64 {
	var n uint64
	for key, count := range b.Drops {
		if r, _, _ := strings.Cut(key, "@"); r == reason {
			n += count
		}
	}
	return n
}

// Dropped sums Drops.
func (b *Books) Dropped() uint64 { return sum(b.Drops) }

// FreedQuietly sums Quiet.
func (b *Books) FreedQuietly() uint64 { return sum(b.Quiet) }

func sum(counts map[string]uint64) (n uint64) {
	for _, count := range counts {
		n += count
	}
	return n
}

// Silent is one line on the packets that were freed quietly; "" if none was.
func (b *Books) Silent() string {
	if len(b.Quiet) == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %s freed quietly, as if received: %s", b.FreedQuietly(), Count(b.Offered, "packet"), list(b.Quiet))
}

// list shows counts by name.
func list(counts map[string]uint64) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", key, counts[key]))
	}
	return strings.Join(parts, ", ")
}

// Accepted is how many packets the sender was told were queued or sent;
// negative only in books that do not balance.
func (b *Books) Accepted() int64 { return int64(b.Offered) - int64(b.Unallocated+b.Refused) }

// Lost is how many of the accepted packets were freed on the way; negative
// only in books that do not balance.
func (b *Books) Lost() int64 { return int64(b.Dropped()+b.FreedQuietly()) - int64(b.Refused) }

// Balance returns nil if every packet is accounted for, else an error that
// shows both sides of each sentence that does not hold.
func (b *Books) Balance() error {
	var wrong []string
	if b.Unallocated+b.Refused > b.Offered {
		wrong = append(wrong, fmt.Sprintf("refused %d > offered %d", b.Unallocated+b.Refused, b.Offered))
	}
	in := b.Offered - b.Unallocated
	out := b.Received + b.Dropped() + b.FreedQuietly() + b.LeftRing + b.LeftQdisc
	if in != out {
		quietly := ""
		if n := b.FreedQuietly(); n > 0 {
			quietly = fmt.Sprintf("freed quietly %d + ", n)
		}
		wrong = append(wrong, fmt.Sprintf("offered %d - unallocated %d = %d, but received %d + dropped %d + %sleft in ring %d + left in qdisc %d = %d",
			b.Offered, b.Unallocated, in, b.Received, b.Dropped(), quietly, b.LeftRing, b.LeftQdisc, out))
	}
	if freed := b.Dropped() + b.FreedQuietly(); b.Refused > freed {
		wrong = append(wrong, fmt.Sprintf("%d refused after an skb was made, but only %s freed", b.Refused, Count(freed, "skb")))
	}
	if b.Foreign != 0 {
		wrong = append(wrong, Count(b.Foreign, "packet")+" arrived that no producer sent")
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("the books do not balance: %s", strings.Join(wrong, "; "))
}

// String is the account in one sentence.
func (b *Books) String() string {
	s := fmt.Sprintf("offered %d = accepted %d + refused %d; accepted %d = received %d + lost %d + left %d",
		b.Offered, b.Accepted(), b.Unallocated+b.Refused,
		b.Accepted(), b.Received, b.Lost(), b.LeftRing+b.LeftQdisc)
	if len(b.Drops) > 0 {
		s += " (freed: " + list(b.Drops) + ")"
	}
	if len(b.Quiet) > 0 {
		s += " (freed quietly: " + list(b.Quiet) + ")"
	}
	return s
}
