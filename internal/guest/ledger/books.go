package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/rcu"
)

// readings are the counters that the device and its qdiscs keep themselves.
type readings struct {
	txDropped uint64
	qdiscs    []netdev.QdiscStats
}

// sameQdiscs says whether no qdisc was replaced between a and b: the counters
// of the old one went with it.
func (a readings) sameQdiscs(b readings) bool {
	return slices.EqualFunc(a.qdiscs, b.qdiscs, func(x, y netdev.QdiscStats) bool {
		return x.Kind == y.Kind && x.Handle == y.Handle && x.Parent == y.Parent
	})
}

func (l *Ledger) read() (readings, error) {
	stats, err := l.dev.Stats()
	if err != nil {
		return readings{}, err
	}
	qdiscs, err := l.dev.QdiscStats()
	if err != nil {
		return readings{}, err
	}
	return readings{txDropped: stats.TxDropped, qdiscs: qdiscs}, nil
}

// settleTries bounds settle. Each try waits for an RCU grace period, some
// 10 ms.
const settleTries = 200

// settle reads all counters until two readings are equal that lie an RCU
// grace period apart. Sending and freeing run inside RCU read-side sections
// (net/core/dev.c: __dev_queue_xmit, and softirqs as a whole), so whatever was
// under way at the first reading had ended at the second.
func (l *Ledger) settle() (readings, error) {
	type all struct {
		readings
		freed, consumed map[countKey]uint64
	}
	look := func() (now all, err error) {
		if now.readings, err = l.read(); err != nil {
			return now, err
		}
		if now.freed, err = l.freed.read(); err != nil {
			return now, err
		}
		now.consumed, err = l.consumed.read()
		// What others free, this very loop's netlink socket among them.
		maps.DeleteFunc(now.freed, func(k countKey, _ uint64) bool { return k.Owner == countOwnerOTHERS })
		return now, err
	}
	last, err := look()
	if err != nil {
		return readings{}, err
	}
	for range settleTries {
		rcu.Synchronize()
		now, err := look()
		if err != nil {
			return readings{}, err
		}
		if now.txDropped == last.txDropped && slices.Equal(now.qdiscs, last.qdiscs) && maps.Equal(now.freed, last.freed) && maps.Equal(now.consumed, last.consumed) {
			return now.readings, nil
		}
		last = now
	}
	return readings{}, fmt.Errorf("the counters of %s never stood still: stop every producer before the account is read", l.dev.Name())
}

// Reconfigured says that the link, its queues or its qdisc are being changed
// while the account is open. A qdisc that is being deactivated frees what is
// sent to it without counting (net/core/dev.c: __dev_xmit_skb), so that from
// here to Reset the counters may lawfully show less than was freed.
func (l *Ledger) Reconfigured() { l.reconfigured = true }

// Books closes the account. It takes what the producers and the consumers
// know (offered, unallocated, refused, received, left in the ring, and what arrived
// wrong) and returns that together with what the ledger saw. All must be quiet:
// producers stopped, what the consumers can get read.
//
// A ring that every consumer has read empty has nothing left; otherwise the
// caller has to know what was left there.
//
// The books are valid if the error is nil. Otherwise they are what was seen,
// and the error is one for each sentence that does not hold: packets without
// account, or two witnesses of the same drops that disagree. That the ledger does
// not know some way to free a packet makes them invalid only if no counter that it
// may move lets the witnesses agree: see Books.Unknown.
func (l *Ledger) Books(known contract.Books) (*contract.Books, error) {
	books := known
	now, err := l.settle()
	if err != nil {
		return &books, err
	}
	freed, err := l.Freed()
	if err != nil {
		return &books, err
	}
	books.Drops = make(map[string]uint64)
	for _, f := range freed {
		books.Drops[f.name()] += f.Count
	}
	books.LeftQdisc = uint64(netdev.SumQdiscs(now.qdiscs).Qlen)
	books.DeviceTxDropped = now.txDropped - l.opened.txDropped

	sums := netdev.SumQdiscs(now.qdiscs)
	replaced := !l.opened.sameQdiscs(now)
	if !replaced {
		// They are 32 bits wide, and so is the difference.
		before := netdev.SumQdiscs(l.opened.qdiscs)
		sums.Drops -= before.Drops
		sums.Requeues -= before.Requeues
	}
	books.QdiscDropped, books.QdiscRequeues = uint64(sums.Drops), uint64(sums.Requeues)

	missing := int64(books.Offered-books.Unallocated) - int64(books.Received+books.Dropped()+books.LeftRing+books.LeftQdisc)
	var errs []error
	// Whatever arrived was read, however often, and whosever it is.
	books.Quiet, err = l.Quiet(books.Received+books.Duplicated+books.Foreign, missing)
	errs = append(errs, err, books.Balance())
	counters := readout{books.DeviceTxDropped, books.QdiscDropped, replaced, l.reconfigured}
	unknown, disagreements := counters.reconcile(freed, l.driver, l.format.hasReason)
	books.Unknown = unknown
	return &books, errors.Join(append(errs, disagreements...)...)
}

// Quiet is how many packets were freed quietly since Open or Reset: by
// skb:consume_skb, though nobody received them. The caller says how many
// readers took, and how many are neither received nor dropped nor queued. All must
// be quiet. A *MismatchError says that these are not as many as were freed quietly.
func (l *Ledger) Quiet(received uint64, missing int64) (map[string]uint64, error) {
	consumed, err := l.Consumed()
	if err != nil {
		return nil, err
	}
	unseen, err := l.consumed.missedSince()
	if err != nil {
		return nil, err
	}
	return quiet(consumed, l.driver.Readers, received, missing, unseen)
}
