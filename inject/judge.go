package inject

import (
	"fmt"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/rcu"
)

// Result is what one run of a schedule came to.
type Result struct {
	// Reached: the instruction was reached, and its CPU held up.
	Reached bool
	// Late: the hold ended before the opponent was done, so this was not the
	// schedule that it says. Nothing is decided by it.
	Late bool
	// Waited: the opponent could not end before the held-up side went on.
	Waited bool
	// Locked: of a pair, the second cannot come where it is to be held up while
	// the first is, for it needs a lock that the first holds.
	Locked bool
	// Stalled says how the queue is stalled; "" if it moves.
	Stalled string
	// Odd counts packets whose length, which is the key, is not what one run
	// of the filter makes it.
	Odd map[int]uint64
	// Requeued is how often a packet that the driver refused was queued again.
	Requeued uint64
	// Wrong packets arrived twice, out of order, or altered.
	Wrong uint64
	Books *contract.Books
	// Unbalanced says what is wrong with the books.
	Unbalanced error
	// AsksToQueue is how many packets were freed because a queue without a
	// qdisc was stopped or refused them.
	AsksToQueue uint64
	// TimeLine says who was where.
	TimeLine []contract.Moment

	began time.Time
}

// newResult begins a result, with memory for its time line: see thread.said.
func newResult() *Result {
	return &Result{TimeLine: make([]contract.Moment, 0, 16), began: time.Now()}
}

// note adds what happens now to the time line.
func (r *Result) note(who, what string) {
	r.TimeLine = append(r.TimeLine, contract.Moment{At: time.Since(r.began), Who: who, What: what})
}

// Who acts, in time lines.
const (
	producer = "producer"
	consumer = "consumer"
	other    = "other side"
)

// Decisive says whether the run was the schedule that it was to be.
func (r *Result) Decisive() bool { return r.Reached && !r.Late }

// judge reads what is there, closes the books, and sees whether a fresh packet
// arrives.
func (s *Stage) judge(before account, result *Result, patience time.Duration) error {
	lost := newLosses()
	left, err := s.settle(before, lost, patience)
	if err != nil {
		return err
	}
	result.close(s.account().since(before), lost, left)
	result.note(consumer, "has read all that comes")
	if left > 0 {
		result.Stalled = fmt.Sprintf("the qdisc holds %d packets and the ring is empty, but nothing moved for %v", left, patience)
		return nil
	}
	fresh := s.account()
	result.note(producer, "sends a fresh packet")
	if _, err := s.fresh.Send(); err != nil {
		result.Stalled = fmt.Sprintf("a fresh packet could not be sent: %v", err)
		return nil
	}
	stuck, err := s.settle(fresh, lost, patience)
	if err != nil {
		return err
	}
	result.close(s.account().since(before), lost, stuck)
	switch {
	case stuck > 0:
		result.note(consumer, "has waited long enough")
		result.Stalled = fmt.Sprintf("a fresh packet stayed in the qdisc for %v although the ring is empty", patience)
	case s.account().since(fresh).received == 0:
		result.Stalled = "a fresh packet did not arrive, and the qdisc does not hold it"
	}
	return nil
}

// asksToQueue is how the core frees what finds its queue without a qdisc stopped
// (net/core/dev.c: __dev_queue_xmit, "asks to queue packet").
var asksToQueue = []string{
	"NOT_SPECIFIED@__dev_queue_xmit",
	// As of 6.1, where the function that frees names itself.
	"NOT_SPECIFIED@kfree_skb_list_reason",
	// As of 7.2.
	"RECURSION_LIMIT@__dev_queue_xmit",
}

// close closes the books.
func (r *Result) close(sum account, lost *losses, left int) {
	r.Books, r.Wrong = sum.books(lost, left), sum.wrong
	r.Unbalanced = r.Books.Balance()
	r.AsksToQueue = 0
	for _, path := range asksToQueue {
		r.AsksToQueue += lost.drops[path]
	}
}

// settle reads until every packet since then is received, freed, or held by a
// qdisc while nothing has moved for all the patience there is. It adds to lost,
// and returns what the qdisc holds. One that is nowhere is on its way, on
// a CPU that does not run: it is given Patience to arrive.
func (s *Stage) settle(since account, lost *losses, patience time.Duration) (left int, err error) {
	before := lost.total
	moved := time.Now()
	quiet := false
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		n, err := s.drain(all)
		if err != nil {
			return 0, err
		}
		if n > 0 {
			moved = time.Now()
		}
		a := s.account().since(since)
		if a.received+lost.total-before >= a.born() {
			return 0, nil
		}
		// To ask the ledger costs more than a whole schedule. So only if the
		// rest was dropped for sure, or does not come of itself.
		if quiet || s.Qdisc == netdev.Noqueue || a.received+a.refused >= a.born() {
			freed, err := s.freed()
			if err != nil {
				return 0, err
			}
			if lost.add(lost.drops, freed) {
				moved = time.Now()
			}
			if a.received+lost.total-before >= a.born() {
				return 0, nil
			}
		}
		if still := time.Since(moved); still > patience {
			rcu.Synchronize()
			if left, err = s.qlen(); err != nil {
				return 0, err
			}
			missing := int64(a.born()) - int64(a.received+lost.total-before) - int64(left)
			// What vhost-net's worker has consumed may not have arrived yet.
			if missing > 0 && (s.card == nil || still > Patience) {
				freed, err := s.freedQuietly(missing)
				if err != nil {
					return 0, err
				}
				if lost.add(lost.quiet, freed) {
					return left, nil
				}
			}
			if missing <= 0 || still > Patience {
				return left, nil
			}
		}
		quiet = !s.readable(wait)
	}
}
