package inject

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// Nothing is the opponent that does nothing: with it, a schedule tells whether
// its instruction is reached at all.
var Nothing = &Opponent{Name: "nothing", Does: "nobody does anything", act: func(*Stage) error { return nil }}

// NothingSent is Nothing against a consumer.
var NothingSent = &Opponent{Name: "nothing-sent", Does: "nobody does anything", Producer: true, act: func(*Stage) error { return nil }}

// enoughStalls is after how many of them it is clear that a queue stalls with
// nobody interfering. Each costs as much time as a hundred schedules.
const enoughStalls = 8

// Reached returns the points of the functions that the victim comes by, in the
// setting, when nobody interferes. What cannot be a point is added to its
// function's Skipped. The points are not all there are if stalls: then the
// queue stalls even so, and the rest was not tried.
func (r *Runner) Reached(functions []*Function, nobody *Opponent, at Setting) (reached []Point, stalls bool, err error) {
	stalled := 0
	for _, f := range functions {
		for _, p := range f.Points {
			result, err := r.Run(Schedule{p, nobody, at}, Suspicion)
			if cannot := (*CannotHoldError)(nil); errors.As(err, &cannot) {
				f.Skipped = append(f.Skipped, cannot.Error())
				continue
			}
			if err != nil {
				return nil, false, err
			}
			if result.Reached {
				reached = append(reached, p)
			}
			if result.Stalled != "" {
				stalled++
			}
			if stalled >= enoughStalls && len(reached) > 0 {
				return reached, true, nil
			}
		}
	}
	return reached, false, nil
}

// Breach says which promise of the contract the result breaks; "" is none.
func (r *Result) Breach(c contract.Contract, s Schedule) (contract.Promise, string) {
	withQdisc := s.Qdisc != netdev.Noqueue
	tail := r.Books.DropsFor(contract.FullRing)
	expect := c.Of(s.Backpressure)
	allowed := uint64(0)
	if expect == contract.RareDrop && (s.Opponent.fills || s.Woken) {
		allowed = 1
	}
	switch {
	case len(r.Odd) > 0:
		return contract.RequeueIntact, fmt.Sprintf("packets went through the device's filter more than once: %s", r.odd())
	case r.Stalled != "":
		return contract.NoStall, r.Stalled
	case !withQdisc && r.AsksToQueue > 0:
		return contract.NoqueueDrops, fmt.Sprintf("a queue without a qdisc was stopped, and %d packets were freed for it", r.AsksToQueue)
	case len(r.Books.Quiet) > 0 && withQdisc:
		return contract.NoTailDrop, r.Books.Silent()
	case len(r.Books.Quiet) > 0:
		return contract.NoqueueDrops, r.Books.Silent()
	case r.Wrong > 0 && withQdisc:
		return contract.NoTailDrop, fmt.Sprintf("%d packets arrived twice, out of order or altered", r.Wrong)
	case r.Wrong > 0:
		return contract.NoqueueDrops, fmt.Sprintf("%d packets arrived twice, out of order or altered", r.Wrong)
	case withQdisc && expect != contract.Stock && tail > allowed && !s.Opponent.tailDrops:
		return contract.NoTailDrop, fmt.Sprintf("%d of %d packets tail-dropped with a qdisc attached", tail, r.Books.Offered)
	}
	return "", ""
}

// odd shows Odd.
func (r *Result) odd() string {
	var parts []string
	for _, length := range slices.Sorted(maps.Keys(r.Odd)) {
		parts = append(parts, fmt.Sprintf("%d of %d bytes", r.Odd[length], length))
	}
	return strings.Join(parts, ", ")
}

// Critical returns those of the points that matter most to a race: from where a
// function takes a spinlock on, in that function and in what it calls; all of
// them if none takes one.
func Critical(functions []*Function, points []Point) []Point {
	after := make(map[string]uint64) // by symbol: from that offset on
	var called []string
	for _, f := range functions {
		for _, p := range f.Points {
			if p.takesSpinlock() {
				if at, ok := after[p.Symbol]; !ok || p.Offset < at {
					after[p.Symbol] = p.Offset
				}
				for _, callee := range f.Calls {
					called = append(called, callee.Raw)
				}
			}
		}
	}
	if len(after) == 0 {
		return points
	}
	return slices.DeleteFunc(slices.Clone(points), func(p Point) bool {
		at, takes := after[p.Symbol]
		return takes && p.Offset < at || !takes && !slices.Contains(called, p.Symbol)
	})
}

// takesSpinlock says whether the instruction calls what spin_lock() is
// (include/linux/spinlock_api_smp.h, and spinlock_rt.h with CONFIG_PREEMPT_RT).
func (p Point) takesSpinlock() bool {
	return strings.Contains(p.Text, "_raw_spin_lock") || strings.Contains(p.Text, "rt_spin_lock")
}
