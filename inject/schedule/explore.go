package schedule

import (
	"errors"
	"strings"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/order"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
)

// enoughStalls is how many stalls show that a queue stalls without an opponent. Each
// costs as much time as a hundred schedules.
const enoughStalls = 8

// Reached returns the points of the functions that the victim executes in the setting,
// without an opponent. An instruction that cannot be a point is added to its function's
// Skipped. If stalls, the queue stalls even without an opponent, and only some points
// were tried.
//
// Who executes an instruction executes all that follow up to the next branch. So the last
// of them tells whether any is executed, and the first, as a rule, that all are.
func (r *Runner) Reached(functions []*disasm.Function, nobody *driver.Opponent, at stage.Setting) (reached []disasm.Point, stalls bool, err error) {
	c := coverage{runner: r, nobody: nobody, at: at}
	for _, f := range functions {
		points, err := r.holdable(f)
		if err != nil {
			return nil, false, err
		}
		for i, run := range straight(points) {
			if i == 0 && run[0].Offset == 0 && !strings.Contains(f.Name, ".") {
				// What does not come by a function's first instruction comes by none of
				// the others, but for those that the compiler has moved out of a
				// function that it does come by.
				comes, err := c.comesBy(run[0])
				if err != nil {
					return nil, false, err
				}
				if !comes {
					break
				}
			}
			executed, err := c.among(run)
			if err != nil {
				return nil, false, err
			}
			reached = append(reached, executed...)
			if c.stalled >= enoughStalls && len(reached) > 0 {
				return reached, true, nil
			}
		}
	}
	return reached, false, nil
}

// holdable are the points of the function at which a CPU can be held up. The others are
// added to its Skipped.
func (r *Runner) holdable(f *disasm.Function) (points []disasm.Point, err error) {
	r.victim.Call(func() {
		for _, p := range f.Points {
			set := r.trap.Set(p)
			if cannot := (*breakpoint.CannotHoldError)(nil); errors.As(set, &cannot) {
				f.Skipped = append(f.Skipped, cannot.Error())
				continue
			}
			if err = set; err != nil {
				return
			}
			points = append(points, p)
		}
	})
	return points, err
}

// straight divides the points into runs: who executes an instruction of a run executes
// all that follow in it.
func straight(points []disasm.Point) (runs [][]disasm.Point) {
	begin := 0
	for i, p := range points {
		if i+1 == len(points) || order.Of(p).Branches || points[i+1].Addr != p.Addr+uint64(len(p.Code)) {
			runs = append(runs, points[begin:i+1])
			begin = i + 1
		}
	}
	return runs
}

// coverage finds out by which points the victim comes.
type coverage struct {
	runner  *Runner
	nobody  *driver.Opponent
	at      stage.Setting
	stalled int // how often the queue has stalled meanwhile
}

// comesBy says whether the victim comes by the point. Now and then a breakpoint is missed,
// so one that was not reached is tried again: a whole run may depend on it.
func (c *coverage) comesBy(p disasm.Point) (bool, error) {
	for range 2 {
		result, err := c.runner.Run(Schedule{p, c.nobody, c.at}, stage.Suspicion)
		if err != nil {
			return false, err
		}
		if result.Stalled != "" {
			c.stalled++
		}
		if result.Reached {
			return true, nil
		}
	}
	return false, nil
}

// among are the points of a run that the victim comes by: all or none as a rule, or those
// behind one that is jumped to.
func (c *coverage) among(run []disasm.Point) ([]disasm.Point, error) {
	// It does not come by those before low, and by all from high on.
	low, high := 0, len(run)
	for next := len(run) - 1; low < high; next = low {
		comes, err := c.comesBy(run[next])
		if err != nil {
			return nil, err
		}
		if comes {
			high = next
		} else {
			low = next + 1
		}
	}
	return run[high:], nil
}

// Breach says which promise of the contract the result of a schedule breaks; "" is
// none.
func Breach(r *stage.Result, c contract.Contract, s Schedule) (contract.Promise, string) {
	seen := r.Seen
	seen.TailDrops = s.Opponent.TailDrops
	if s.Opponent.Fills || s.Woken {
		seen.Overtaken = 1
	}
	return c.Breach(&seen)
}
