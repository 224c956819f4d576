package schedule

import (
	"errors"
	"strings"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/disasm"
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
func (r *Runner) Reached(functions []*disasm.Function, nobody *driver.Opponent, at stage.Setting) (reached []disasm.Point, stalls bool, err error) {
	stalled := 0
	for _, f := range functions {
		for _, p := range f.Points {
			result, err := r.Run(Schedule{p, nobody, at}, stage.Suspicion)
			if cannot := (*breakpoint.CannotHoldError)(nil); errors.As(err, &cannot) {
				f.Skipped = append(f.Skipped, cannot.Error())
				continue
			}
			if err != nil {
				return nil, false, err
			}
			if result.Reached {
				reached = append(reached, p)
			}
			// What does not come by a function's first instruction comes by none of
			// the others, but for those that the compiler has moved out of a
			// function that it does come by.
			if p.Offset == 0 && !result.Reached && !strings.Contains(f.Name, ".") {
				again, err := r.Run(Schedule{p, nobody, at}, stage.Suspicion)
				if err != nil {
					return nil, false, err
				}
				if !again.Reached {
					break
				}
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
