package stage

import (
	"fmt"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/liveness"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/rcu"
)

const (
	// Suspicion is for how long nothing may move before a schedule is
	// suspected to have stalled the queue, and Patience before it is believed.
	Suspicion = 50 * time.Millisecond
	Patience  = time.Second
)

// Result is what one run on a stage came to.
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
	// Requeued is how often a packet that the driver refused was queued again.
	Requeued uint64
	// Seen is what decides, with the books of this run.
	contract.Seen
	// Unbalanced says what is wrong with the books.
	Unbalanced error
	// TimeLine says who was where.
	TimeLine []contract.Moment

	// Moving: one side is at work, or held up at it, and what is in the ring cannot
	// be told from outside.
	Moving bool
	// Look tells what the txq is like at each moment of the time line; nil if it is
	// not watched: see Stage.Watch.
	Look func(moving bool) *contract.Queue

	began time.Time
}

// NewResult begins a result, with memory for its time line: see cpu.Thread.
func NewResult() *Result {
	return &Result{TimeLine: make([]contract.Moment, 0, 16), began: time.Now()}
}

// Note adds what happens now to the time line.
func (r *Result) Note(who, what string) {
	var queue *contract.Queue
	if r.Look != nil {
		queue = r.Look(r.Moving)
	}
	r.note(who, what, queue)
}

// NoteRelease adds that one who was held up goes on. It is at work by now, so the txq
// is shown as it was the moment before.
func (r *Result) NoteRelease(who string) {
	r.note(who, "goes on", r.TimeLine[len(r.TimeLine)-1].Queue)
}

func (r *Result) note(who, what string, queue *contract.Queue) {
	r.TimeLine = append(r.TimeLine, contract.Moment{At: time.Since(r.began), Who: who, What: what, Queue: queue})
}

// Decisive says whether the run was the schedule that it was to be.
func (r *Result) Decisive() bool { return r.Reached && !r.Late }

// Mark is how the counts stand when something begins.
type Mark struct {
	account account
	odd     map[int]uint64
}

// Begin marks the beginning of a run.
func (s *Stage) Begin() Mark {
	s.followed = false
	return Mark{s.account(), s.receiver.Odd()}
}

// Finish reads all packets, closes the books of everything since the mark, and checks
// that a fresh packet arrives. The queue is stalled if nothing moves for the patience.
func (s *Stage) Finish(since Mark, result *Result, patience time.Duration) error {
	before := since.account
	lost := newLosses()
	left, err := s.settle(before, lost, patience)
	if err != nil {
		return err
	}
	s.close(result, before, lost, left)
	result.Note(contract.Consumer, "has read all that comes")
	if left > 0 {
		result.Stalled = fmt.Sprintf("the qdisc holds %s and the ring is empty, but nothing moved for %v", contract.Count(left, "packet"), patience)
		return nil
	}
	nowhere := result.Unbalanced != nil
	fresh := s.account()
	result.Note(contract.Producer, "sends a fresh packet")
	if _, err := s.fresh.Send(); err != nil {
		result.Stalled = fmt.Sprintf("a fresh packet could not be sent: %v", err)
		return nil
	}
	stuck, err := s.settle(fresh, lost, patience)
	if err != nil {
		return err
	}
	if nowhere {
		// What was nowhere may have come first.
		if _, err := s.Drain(driver.All); err != nil {
			return err
		}
	}
	s.close(result, before, lost, stuck)
	switch {
	case nowhere && result.Unbalanced == nil:
		result.Note(contract.Consumer, "has read what stood in the ring")
		result.Stalled = fmt.Sprintf("packets stood in the ring for %v, and nobody took them until a fresh one came", Patience)
	case stuck > 0:
		result.Note(contract.Consumer, "has waited long enough")
		result.Stalled = fmt.Sprintf("a fresh packet stayed in the qdisc for %v although the ring is empty", patience)
	case s.account().since(fresh).received == 0:
		result.Stalled = "a fresh packet did not arrive, and the qdisc does not hold it"
	}
	result.Odd = beyond(s.receiver.Odd(), since.odd)
	return nil
}

// close closes the books.
func (s *Stage) close(r *Result, before account, lost *losses, left int) {
	r.close(s.account().since(before), lost, left)
	r.Noqueue, r.Backpressure, r.CountersUnread = s.Qdisc() == netdev.Noqueue, s.at.Backpressure, true
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

func (r *Result) close(sum account, lost *losses, left int) {
	r.Books, r.Wrong = sum.books(lost, left), sum.wrong
	r.Unbalanced = r.Books.Balance()
	r.AsksToQueue = 0
	for _, path := range asksToQueue {
		r.AsksToQueue += int(lost.drops[path])
	}
}

// settle reads until every packet since then is received, freed, or held by a qdisc
// while nothing has moved for the patience. It adds to lost, and returns how many
// packets the qdisc holds. A packet that is missing may be on its way, on a CPU that
// does not run: it gets Patience to arrive.
func (s *Stage) settle(since account, lost *losses, patience time.Duration) (left int, err error) {
	before := lost.total
	rest := liveness.NewRest(patience)
	quiet := false
	for pause := time.Millisecond; ; pause = min(2*pause, rest.LongestPause()) {
		n, err := s.Drain(driver.All)
		if err != nil {
			return 0, err
		}
		if n > 0 {
			rest.Moved()
		}
		a := s.account().since(since)
		if a.received+lost.total-before >= a.allocated() {
			return 0, nil
		}
		// To ask the ledger costs more than a whole schedule. So only if the
		// rest was dropped for sure, or does not come of itself.
		if quiet || s.Qdisc() == netdev.Noqueue || a.received+a.refused >= a.allocated() {
			freed, err := s.freed()
			if err != nil {
				return 0, err
			}
			if lost.add(lost.drops, freed) {
				rest.Moved()
			}
			if a.received+lost.total-before >= a.allocated() {
				return 0, nil
			}
		}
		still, over, err := rest.Still()
		if err != nil {
			return 0, err
		}
		if over {
			rcu.Synchronize()
			if left, err = s.Held(); err != nil {
				return 0, err
			}
			missing := int64(a.allocated()) - int64(a.received+lost.total-before) - int64(left)
			// What a worker has consumed may not have arrived yet.
			if missing > 0 && (s.worker == nil || still > Patience) {
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
		quiet = !s.Readable(pause)
	}
}
