package guest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/inject/order"
	"github.com/ringproof/ringproof/inject/schedule"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
)

// storeBreachOf says which promise the result of a store schedule breaks.
func storeBreachOf(r *stage.Result, c contract.Contract, s schedule.Store) (contract.Promise, string) {
	return schedule.Breach(r, c, schedule.Schedule{Opponent: schedule.Nothing, Setting: s.Setting()})
}

// storeBreach is one store schedule that broke a promise.
type storeBreach struct {
	store   schedule.Store
	delay   *schedule.Delay
	known   bool // the other side is known to write what the load reads
	promise contract.Promise
	why     string
	books   *contract.Books
}

// So many breaches are no reason to look for more: a device that stalls, and is revived,
// takes as long as a dozen schedules.
const plentyStores = 10

// stores runs all store schedules, with the rest as all has it.
func (x *exploration) stores(t *testing.T, all schedule.Store) {
	c, promises := x.begin(t, all.Setting())
	x.runner.Begins = announceSchedule(t)
	defer schedule.Uncollected()()
	began := time.Now()
	search, err := x.runner.Search(subject, all)
	tookSince(began)
	x.check(t, c, promises, err)
	var breaches []storeBreach
	var unbalanced []error
	run, reached, left := 0, 0, false
	var early struct{ tried, reached int } // of these
	for found, err := range search.Windows() {
		x.check(t, c, promises, err)
		for _, load := range found.Loads {
			if left = noTime(t); left {
				break
			}
			s := found.Order.With(load)
			result, delay, err := x.decideStore(s, stage.Suspicion)
			x.check(t, c, promises, err)
			run++
			if s.Early != nil {
				early.tried++
			}
			switch {
			case !result.Reached:
				search.RuledOut["not executed again"]++
			case result.Locked:
				search.RuledOut["the other side needs a lock"]++
			case delay.Prevented != "":
				search.RuledOut[delay.Prevented]++
			default:
				reached++
				if s.Early != nil {
					early.reached++
				}
			}
			promise, why := storeBreachOf(result, c, s)
			switch {
			case promise != "" && (!result.Reached || delay.Prevented != ""):
				// It takes no such order, so others find it.
				t.Logf("%s broken in the order of the program, in %v: %s", promise, s, why)
			case promise != "":
				// A false alarm is what an order would be that is not the hardware's.
				again, err := x.runner.Window(s)
				x.check(t, c, promises, err)
				if again.Find(s.Load) == nil {
					search.RuledOut["the store is not followed by that load each time"]++
					t.Logf("%s broken in %v, which is not followed each time: %v", promise, s, again)
					continue
				}
				breaches = append(breaches, storeBreach{s, delay, search.Known(load), promise, why, result.Books})
			case result.Unbalanced != nil:
				unbalanced = append(unbalanced, result.Unbalanced)
				t.Errorf("schedule %v: %v", s, result.Unbalanced)
			}
		}
		if left = left || noTime(t); left || len(breaches) >= plentyStores {
			break
		}
	}
	took := time.Since(began)
	unbalanced = x.audit(t, unbalanced)
	var ruled []string
	for _, rule := range slices.Sorted(maps.Keys(search.RuledOut)) {
		ruled = append(ruled, fmt.Sprintf("%s %d", rule, search.RuledOut[rule]))
	}
	coverage := fmt.Sprintf("%s, %d of them where the other side reads; with the other side held up at %s; in %s delayed beyond %s, %d of them carried out",
		contract.Count(search.Stores, "store"), search.Read, contract.Count(search.Firsts, "instruction"), contract.Count(search.Followed, "window"), contract.Count(run-early.tried, "load"), reached-early.reached)
	if search.Loads > 0 {
		coverage += fmt.Sprintf("; %s where the other side writes, passed by %s, %d of them carried out", contract.Count(search.Loads, "load"), contract.Count(early.tried, "later load"), early.reached)
	}
	if len(breaches) >= plentyStores {
		t.Logf("%d orders broke a promise; the rest was not tried", len(breaches))
	}
	t.Logf("%s, in %v (%.0f/s); ruled out or ended by: %s", coverage, took.Round(time.Millisecond), float64(run)/took.Seconds(), strings.Join(ruled, ", "))
	found, suspected := make(findings), 0
	for _, p := range promises {
		its := slices.DeleteFunc(slices.Clone(breaches), func(b storeBreach) bool { return b.promise != p })
		if len(its) == 0 {
			continue
		}
		if f := x.confirmStore(t, c, its); onlySuspected(t, f) {
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
		case search.Stores == 0:
			v.Outcome, v.Why = contract.Undecided, "no store was found that could be delayed"
		case search.Followed == 0:
			v.Outcome, v.Why = contract.NotRun, "no store was executed while the other side was held up: "+coverage
		case run == 0:
			v.Outcome, v.Why = contract.NotRun, "no store can be delayed beyond a load: "+coverage
		case reached == 0:
			v.Outcome, v.Why = contract.Undecided, "no order was carried out: "+coverage
		case suspected > run/20:
			v.Outcome, v.Why = contract.Undecided, fmt.Sprintf("of %s %d seemed to stall and did not do so again", contract.Count(run, "order"), suspected)
		}
		report(t, v)
	}
}

// decideStore runs a store schedule until it was what it says.
func (x *exploration) decideStore(s schedule.Store, patience time.Duration) (result *stage.Result, delay *schedule.Delay, err error) {
	for range attempts {
		if result, delay, err = x.runner.RunStore(s, patience); err != nil || result.Decisive() {
			break
		}
	}
	return result, delay, err
}

// telling is the breach that says most: one whose load reads what the other side
// writes, if there is one.
func telling(breaches []storeBreach) storeBreach {
	for _, b := range breaches {
		if b.known {
			return b
		}
	}
	return breaches[0]
}

// confirmStore runs one of the schedules that broke the same promise again.
func (x *exploration) confirmStore(t *testing.T, c contract.Contract, breaches []storeBreach) *contract.Finding {
	t.Helper()
	b := telling(breaches)
	first, second := contract.Producer, contract.Consumer
	if b.store.ConsumerFirst {
		first, second = second, first
	}
	barrier := "smp_mb()"
	switch {
	case b.store.Early != nil:
		barrier = "smp_rmb()"
	case order.Of(b.store.Load.Point).Writes:
		barrier = "smp_wmb()"
	}
	f := &contract.Finding{
		Promise: b.promise, Contract: c, Points: 1,
		From: place(b.store.First), To: place(b.store.First),
		Opponent: fmt.Sprintf("the %s %s; the %s ends before that", second, passes(b.store), first),
		Evidence: fmt.Sprintf("  %s broke it, the first %v, the last %v",
			contract.Count(len(breaches), "order"), breaches[0].store, breaches[len(breaches)-1].store),
		Schedule: b.store.String(), Why: b.why, Books: b.books,
		Delayed: &contract.Delayed{
			Load: place(b.store.Load.Point), Early: b.store.Early != nil,
			At:      fmt.Sprintf("%v, which held %#x before and %#x after", b.delay.At, b.delay.Old, b.delay.New),
			Barrier: barrier, Litmus: litmus(first, second, b.store),
		},
	}
	at := place(b.store.Store.Point)
	f.Second = &at
	err := countAgain(f, func() (result *stage.Result, promise contract.Promise, why string, err error) {
		result, delay, err := x.decideStore(b.store, stage.Patience)
		if err != nil || !result.Decisive() || delay.Prevented != "" {
			return nil, "", "", err
		}
		promise, why = storeBreachOf(result, c, b.store)
		return result, promise, why, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// passes says what the second side does.
func passes(s schedule.Store) string {
	if s.Early != nil {
		return fmt.Sprintf("executes its load at %v (%s) before its load at %v (%s)", s.Load, s.Load.Text, s.Store, s.Store.Text)
	}
	behind := "load"
	if order.Of(s.Load.Point).Writes {
		behind = "store"
	}
	return fmt.Sprintf("makes its store at %v (%s) visible only behind its %s at %v (%s)", s.Store, s.Store.Text, behind, s.Load, s.Load.Text)
}

// replayStore runs one store schedule alone.
func (x *exploration) replayStore(t *testing.T, id string) {
	s, err := schedule.ParseStore(subject, id)
	if err != nil {
		begin(t, contract.NoTailDrop, contract.NoStall)
		t.Fatal(err)
	}
	c, promises := x.begin(t, s.Setting())
	x.runner.Begins = announceSchedule(t)
	defer schedule.Uncollected()()
	window, err := x.runner.Window(s)
	x.check(t, c, promises, err)
	load := window.Find(s.Load)
	if load == nil {
		t.Fatalf("schedule %v: the hardware does not do that: %v", s, window)
	}
	s = s.With(*load)
	result, delay, err := x.decideStore(s, stage.Patience)
	x.check(t, c, promises, err)
	why := ""
	switch {
	case !result.Decisive():
		why = fmt.Sprintf("the two instructions were not executed, %d times", attempts)
	case delay.Prevented != "":
		why = "the order was not acted out: " + delay.Prevented
	}
	if why != "" {
		for _, promise := range promises {
			report(t, contract.Verdict{Promise: promise, Contract: c, Outcome: contract.Undecided, Why: why})
		}
		return
	}
	t.Logf("one side held up at %v: %s\nthe other %s\n%v", s.First, s.First.Text, passes(s), result.Books)
	found := make(findings)
	if promise, why := storeBreachOf(result, c, s); promise != "" {
		found.add(t, x.confirmStore(t, c, []storeBreach{{s, delay, true, promise, why, result.Books}}))
	}
	x.replayed(t, c, promises, result, found)
}

// litmus is the order as a test for herd7, in C: what the two sides do with the two
// locations. The first does it in the order in which it does, whatever the model.
func litmus(first, second string, s schedule.Store) string {
	if s.Early != nil {
		return fmt.Sprintf(`C %s-loads-early

{}

(* the %s: x is loaded at %v, y is loaded at %v *)
P0(int *x, int *y)
{
	int r0;
	int r1;

	r0 = READ_ONCE(*x);
	r1 = READ_ONCE(*y);
}

(* the %s, from %v on *)
P1(int *x, int *y)
{
	WRITE_ONCE(*y, 1);
	smp_mb();
	WRITE_ONCE(*x, 1);
}

exists (0:r0=1 /\ 0:r1=0)
`, second, second, s.Store, s.Load, first, s.First)
	}
	if order.Of(s.Load.Point).Writes {
		return fmt.Sprintf(`C %s-stores-late

{}

(* the %s: x is stored at %v, y is stored at %v *)
P0(int *x, int *y)
{
	WRITE_ONCE(*x, 1);
	WRITE_ONCE(*y, 1);
}

(* the %s, from %v on *)
P1(int *x, int *y)
{
	int r0;
	int r1;

	r0 = READ_ONCE(*y);
	smp_mb();
	r1 = READ_ONCE(*x);
}

exists (1:r0=1 /\ 1:r1=0)
`, second, second, s.Store, s.Load, first, s.First)
	}
	return fmt.Sprintf(`C %s-reads-early

{}

(* the %s: x is stored at %v, y is loaded at %v *)
P0(int *x, int *y)
{
	int r0;

	WRITE_ONCE(*x, 1);
	r0 = READ_ONCE(*y);
}

(* the %s, from %v on *)
P1(int *x, int *y)
{
	int r0;

	WRITE_ONCE(*y, 1);
	smp_mb();
	r0 = READ_ONCE(*x);
}

exists (0:r0=0 /\ 1:r0=0)
`, second, second, s.Store, s.Load, first, s.First)
}
