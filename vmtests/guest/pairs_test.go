package guest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/schedule"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
)

// breachOf says which promise the result of a pair breaks. Its consumer makes
// room and takes none.
func breachOf(r *stage.Result, c contract.Contract, p schedule.Pair) (contract.Promise, string) {
	return schedule.Breach(r, c, schedule.Schedule{Opponent: schedule.Nothing, Setting: p.Setting()})
}

// plenty of breaches are no reason to look for more.
const plenty = 100

// pairs runs all pairs of points, with the rest as all has it.
func (x *exploration) pairs(t *testing.T, all schedule.Pair) {
	at := all.Setting()
	c, promises := x.begin(t, at)
	x.runner.Begins = announceSchedule(t)
	var points [2][]disasm.Point
	for _, target := range subject.Targets {
		if target.Consumer != all.Consumer {
			continue
		}
		side := 0
		if target.Consumes != all.ConsumerFirst {
			side = 1
		}
		there, err := x.points(t, target, at)
		x.check(t, c, promises, err)
		tried := there.points
		switch {
		case everything():
		case target.Paired:
			tried = slices.DeleteFunc(slices.Clone(tried), func(p disasm.Point) bool { return p.Symbol != target.Root })
		default:
			functions, err := schedule.Functions(target)
			x.check(t, c, promises, err)
			tried = disasm.Critical(functions, tried)
		}
		if !everything() {
			tried = distinct(tried)
		}
		points[side] = append(points[side], tried...)
	}
	began := time.Now()
	var breaches []pairBreach
	run, reached, locked, late := 0, 0, 0, 0
	left := false
	var unbalanced []error
explore:
	for _, all.First = range points[0] {
		for _, all.Second = range points[1] {
			if left = noTime(t); left {
				break explore
			}
			result, err := x.decidePair(all, stage.Suspicion)
			x.check(t, c, promises, err)
			run++
			switch {
			case result.Locked:
				locked++
			case result.Late:
				late++
			}
			if !result.Decisive() {
				// Some cannot be: what one has to read depends on where the
				// other is.
				continue
			}
			reached++
			if promise, why := breachOf(result, c, all); promise != "" {
				breaches = append(breaches, pairBreach{all, promise, why, result.Books})
			} else if result.Unbalanced != nil {
				unbalanced = append(unbalanced, result.Unbalanced)
				t.Errorf("schedule %v: %v", all, result.Unbalanced)
			}
			if len(breaches) == plenty {
				t.Logf("%d schedules broke a promise; the rest was not tried", plenty)
				break explore
			}
		}
	}
	took := time.Since(began)
	unbalanced = x.audit(t, unbalanced)
	coverage := fmt.Sprintf("%d pairs of %d and %d instructions were tried, both were held up at once in %d, one needs a lock that the other holds in %d, the first went on too early in %d", run, len(points[0]), len(points[1]), reached, locked, late)
	t.Logf("%s, in %v (%.0f/s)", coverage, took.Round(time.Millisecond), float64(run)/took.Seconds())
	found, suspected := make(findings), 0
	for _, p := range promises {
		its := slices.DeleteFunc(slices.Clone(breaches), func(b pairBreach) bool { return b.promise != p })
		if len(its) == 0 {
			continue
		}
		if f := x.confirmPair(t, c, its); onlySuspected(t, f) {
			suspected += len(its)
		} else {
			found.add(t, f)
		}
	}
	for _, p := range promises {
		v := found.verdict(p, c, coverage, unbalanced)
		switch {
		case v.Outcome != contract.Kept:
		case left:
			v.Outcome, v.Why = contract.NotRun, contract.NoTime
		case reached == 0:
			v.Outcome, v.Why = contract.Undecided, "no two instructions were held up at once"
		case late+suspected > run/20:
			v.Outcome, v.Why = contract.Undecided, fmt.Sprintf("of %s the first side went on too early in %d, and %d seemed to stall and did not do so again", contract.Count(run, "pair"), late, suspected)
		}
		report(t, v)
	}
}

// decidePair runs a pair until it is clear whether both can be held up at once.
func (x *exploration) decidePair(p schedule.Pair, patience time.Duration) (result *stage.Result, err error) {
	for range attempts {
		if result, err = x.runner.RunPair(p, patience); err != nil || !result.Late && !result.Locked {
			break
		}
	}
	return result, err
}

// pairBreach is one pair that broke a promise.
type pairBreach struct {
	pair    schedule.Pair
	promise contract.Promise
	why     string
	books   *contract.Books
}

// confirmPair runs the pair in the middle of those that broke the same promise
// again.
func (x *exploration) confirmPair(t *testing.T, c contract.Contract, breaches []pairBreach) *contract.Finding {
	t.Helper()
	b := breaches[len(breaches)/2]
	first, second := contract.Producer, contract.Consumer
	if b.pair.ConsumerFirst {
		first, second = second, first
	}
	f := &contract.Finding{
		Promise: b.promise, Contract: c, Points: 1,
		From: place(b.pair.First), To: place(b.pair.First),
		Evidence: fmt.Sprintf("  %s broke it, the first %v, the last %v", contract.Count(len(breaches), "pair"), breaches[0].pair, breaches[len(breaches)-1].pair),
		Opponent: fmt.Sprintf("the %s is held up in turn at %v: %s; the %s then ends first", second, b.pair.Second, b.pair.Second.Text, first),
		Schedule: b.pair.String(), Why: b.why, Books: b.books,
	}
	at := place(b.pair.Second)
	f.Second = &at
	err := countAgain(f, func() (result *stage.Result, promise contract.Promise, why string, err error) {
		if result, err = x.decidePair(b.pair, stage.Patience); err != nil || !result.Decisive() {
			return nil, "", "", err
		}
		promise, why = breachOf(result, c, b.pair)
		return result, promise, why, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// replayPair runs one pair alone.
func (x *exploration) replayPair(t *testing.T, id string) {
	p, err := schedule.ParsePair(subject, id)
	if err != nil {
		begin(t, contract.NoTailDrop, contract.NoStall)
		t.Fatal(err)
	}
	c, promises := x.begin(t, p.Setting())
	x.runner.Begins = announceSchedule(t)
	result, err := x.decidePair(p, stage.Patience)
	x.check(t, c, promises, err)
	if !result.Decisive() {
		for _, promise := range promises {
			report(t, contract.Verdict{Promise: promise, Contract: c, Outcome: contract.Undecided, Why: fmt.Sprintf("the two were not held up at once, %d times", attempts)})
		}
		return
	}
	t.Logf("one side held up at %v: %s\nthen the other at %v: %s\n%v", p.First, p.First.Text, p.Second, p.Second.Text, result.Books)
	found := make(findings)
	if promise, why := breachOf(result, c, p); promise != "" {
		found.add(t, x.confirmPair(t, c, []pairBreach{{p, promise, why, result.Books}}))
	}
	x.replayed(t, c, promises, result, found)
}
