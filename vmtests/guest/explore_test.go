package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/order"
	"github.com/ringproof/ringproof/inject/schedule"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// exploration is what all subtests share.
type exploration struct {
	runner *schedule.Runner
	// reached is by target and setting.
	reached map[string]reached
}

// reached are the points that a target comes by.
type reached struct {
	points []disasm.Point
	total  int // instructions that the target has
	// skipped are those that cannot be points, and why.
	skipped []string
	// stalls: with nobody interfering. Then points are but a few.
	stalls bool
}

func (x *exploration) close(t *testing.T) {
	if x.runner != nil {
		if err := x.runner.Close(); err != nil {
			t.Error(err)
		}
	}
}

// begin makes the test the one that runs schedules. What the kernel lacks
// skips it.
func (x *exploration) begin(t *testing.T, at stage.Setting) (contract.Contract, []contract.Promise) {
	t.Helper()
	promises := []contract.Promise{contract.NoTailDrop, contract.NoStall}
	switch {
	case at.Trim > 0:
		promises = append(promises, contract.RequeueIntact)
	case at.Qdisc == netdev.Noqueue:
		promises[0] = contract.NoqueueDrops
	}
	begin(t, promises...)
	c := contractOf(t)
	step("start the runner", "")
	var err error
	if x.runner == nil {
		x.runner, err = schedule.NewRunner(subject)
	}
	if err == nil {
		x.runner.Begins = beginSchedule
		err = x.runner.Pin()
	}
	x.check(t, c, promises, err)
	runtime.GC()
	return c, promises
}

// check ends the test if err is not nil: as not run if that is for something
// that the kernel lacks.
func (x *exploration) check(t *testing.T, c contract.Contract, promises []contract.Promise, err error) {
	t.Helper()
	if err == nil {
		return
	}
	lacking(t, c, promises, err)
	if none := (*disasm.NoFunctionError)(nil); errors.As(err, &none) {
		notRun(t, c, promises, none.Error())
	}
	t.Fatal(err)
}

// attempts is how often a schedule is run until one is decisive.
const attempts = 4

// decide runs a schedule until it was what it says, and returns nil if it
// never was. An opponent that had to wait, and is not one that is likely to, may
// have waited for a third: then the schedule is run again as well.
func (x *exploration) decide(s schedule.Schedule, patience time.Duration) (decided *stage.Result, err error) {
	for range attempts {
		result, err := x.runner.Run(s, patience)
		if err != nil {
			return nil, err
		}
		if result.Decisive() {
			decided = result
			if !result.Waited || s.Opponent.Waits {
				break
			}
		}
	}
	return decided, nil
}

// breach is one schedule that broke a promise.
type breach struct {
	index    int // of its point among those reached
	schedule schedule.Schedule
	promise  contract.Promise
	why      string
	books    *contract.Books
}

// distinct leaves out the points at which it is the same to hold a CPU up as at the next
// one. It keeps all if nothing else is left: a check without a schedule decides nothing.
func distinct(points []disasm.Point) []disasm.Point {
	few := slices.DeleteFunc(slices.Clone(points), func(p disasm.Point) bool { return !order.Shared(p) })
	if len(few) == 0 {
		return points
	}
	return few
}

func (x *exploration) explore(t *testing.T, check check) {
	target, opponent, at := check.target, check.opponent, check.at
	c, promises := x.begin(t, at)
	began := time.Now()
	there, err := x.points(t, target, at)
	x.check(t, c, promises, err)
	points := there.points
	if opponent.Control && target.Consumes {
		// What comes before the consumer has the ring's lock is the same as
		// reading later.
		functions, err := schedule.Functions(target)
		x.check(t, c, promises, err)
		points = disasm.Critical(functions, points)
	}
	reached := len(points)
	if testing.Short() {
		points = distinct(points)
	}
	search := time.Since(began)
	if at.Woken && reached == 0 {
		notRun(t, c, promises, "a driver that wakes a txq whose ring is full: a change of tx_queue_len leaves it stopped")
	}

	began = time.Now()
	var breaches []breach
	kept := make(map[int]schedule.Schedule) // by index of the point
	inconclusive := 0
	open := make(map[int]bool) // by index: what came of it is not known
	var unbalanced []error
	var requeued, tailDropped uint64
	left := 0
	for i, p := range points {
		if noTime(t) {
			left = len(points) - i
			break
		}
		s := schedule.Schedule{Point: p, Opponent: opponent, Setting: at}
		result, err := x.decide(s, stage.Suspicion)
		x.check(t, c, promises, err)
		if result == nil {
			inconclusive++
			open[i] = true
			t.Logf("inconclusive: %v: %s", s, p.Text)
			continue
		}
		requeued += result.Requeued
		tailDropped += result.Books.DropsFor(contract.FullRing)
		if promise, why := schedule.Breach(result, c, s); promise != "" {
			breaches = append(breaches, breach{i, s, promise, why, result.Books})
		} else if result.Unbalanced != nil {
			unbalanced = append(unbalanced, result.Unbalanced)
			t.Errorf("schedule %v: %v", s, result.Unbalanced)
		} else {
			kept[i] = s
		}
	}
	took := time.Since(began)
	unbalanced = x.audit(t, unbalanced)
	coverage := fmt.Sprintf("%d of %d instructions are reached, %s run", reached, there.total, contract.Count(len(points)-left-inconclusive, "schedule was", "schedules were"))
	t.Logf("%s in %v (%.0f/s; to find those that are reached: %v), %d inconclusive", coverage, took.Round(time.Millisecond), float64(len(points))/took.Seconds(), search.Round(time.Millisecond), inconclusive)

	found := make(findings)
	for _, window := range windows(breaches, open) {
		f, err := x.confirm(t, c, window, reached)
		x.check(t, c, promises, err)
		if f.Failed > 0 {
			f.Kept, err = x.neighbour(t, c, window, kept)
			x.check(t, c, promises, err)
		}
		if onlySuspected(t, f) {
			inconclusive += len(window)
		} else {
			found.add(t, f)
		}
	}
	for _, p := range promises {
		v := found.verdict(p, c, coverage, unbalanced)
		switch {
		case v.Outcome != contract.Kept:
		case left > 0:
			v.Outcome, v.Why = contract.NotRun, contract.NoTime
		case len(points) == 0:
			v.Outcome, v.Why = contract.Undecided, "no instruction of "+target.Root+" was reached"
		case p == contract.RequeueIntact && requeued+tailDropped == 0:
			v.Outcome, v.Why = contract.Undecided, "no packet found the ring full, so none was refused"
		case p == contract.RequeueIntact:
			v.Why = fmt.Sprintf("%s found the ring full, %d of them queued again; each was trimmed once", contract.Count(requeued+tailDropped, "packet"), requeued)
		}
		switch {
		case v.Outcome != contract.Kept:
		case there.stalls:
			v.Outcome, v.Why = contract.Undecided, "the queue stalls with nobody interfering, so few schedules were tried"
		case inconclusive > len(points)/20:
			v.Outcome, v.Why = contract.Undecided, fmt.Sprintf("%d of %s could not be carried out as it says, in %d attempts each", inconclusive, contract.Count(len(points), "schedule"), attempts)
		}
		report(t, v)
	}
}

// audit adds what the counters of the device and its qdisc do not agree with.
func (x *exploration) audit(t *testing.T, unbalanced []error) []error {
	t.Helper()
	unknown, err := x.runner.Audit()
	unknownPaths(t, unknown)
	if err != nil {
		t.Error(err)
		unbalanced = append(unbalanced, err)
	}
	return unbalanced
}

// findings are those that decide a promise.
type findings map[contract.Promise]*contract.Finding

func (fs findings) add(t *testing.T, f *contract.Finding) {
	t.Helper()
	if f.Failed > 0 {
		t.Error(f)
		attribute(t, contract.AttrFinding, fitting(t, f))
	}
	if known := fs[f.Promise]; known == nil || known.Failed == 0 {
		fs[f.Promise] = f
	}
}

// fitting is the finding, less what can be left out if it is too long to reach the
// host: which instructions are in the window, then the neighbour.
func fitting(t *testing.T, f *contract.Finding) *contract.Finding {
	short := *f
	for _, leaveOut := range []func(){func() {}, func() { short.At = nil }, func() { short.Kept = nil }} {
		leaveOut()
		if data, err := json.Marshal(short); err != nil || fits(t, contract.AttrFinding, data) {
			break
		}
	}
	return &short
}

// verdict is that on a promise, as far as findings and books decide it; kept is
// what else there is to say for it.
func (fs findings) verdict(p contract.Promise, c contract.Contract, kept string, unbalanced []error) contract.Verdict {
	v := contract.Verdict{Promise: p, Contract: c, Outcome: contract.Kept, Why: kept}
	switch {
	case fs[p] != nil:
		v.Outcome, v.Why = fs[p].Outcome()
	case len(unbalanced) > 0:
		v.Outcome, v.Why = contract.Undecided, unbalanced[0].Error()
	}
	return v
}

// onlySuspected says whether that is a stall which no replay showed: what is
// explored is given Suspicion to go on, a replay Patience.
func onlySuspected(t *testing.T, f *contract.Finding) bool {
	t.Helper()
	only := f.Promise == contract.NoStall && f.Failed == 0
	if only {
		t.Log("it seemed to stall once, and did not do so again: ", f.Schedule)
	}
	return only
}

// points returns the target's points that are reached in the setting.
func (x *exploration) points(t *testing.T, target driver.Target, at stage.Setting) (reached, error) {
	functions, err := schedule.Functions(target)
	if err != nil {
		return reached{}, err
	}
	if !target.Consumes {
		at.Left = 0
	}
	key := fmt.Sprint(target.Root, at)
	r, known := x.reached[key]
	if !known {
		defer tookSince(time.Now())
		nobody := schedule.Nothing
		if target.Consumes {
			nobody = schedule.NothingSent
		}
		tried := functions
		if at.Woken {
			// Each takes a change of tx_queue_len, and what is read before the
			// transmit looks at the ring does not matter.
			tried = nil
			for _, f := range functions {
				tried = append(tried, &disasm.Function{Name: f.Name, Points: disasm.Critical(functions, f.Points), Skipped: f.Skipped})
			}
			// If the txq is not woken by that, the first instruction tells.
			entry := &disasm.Function{Name: target.Root, Points: functions[0].Points[:1]}
			if r.points, r.stalls, err = x.runner.Reached([]*disasm.Function{entry}, nobody, at); len(r.points) == 0 {
				tried = nil
			}
		}
		if err == nil {
			r.points, r.stalls, err = x.runner.Reached(tried, nobody, at)
		}
		for _, f := range functions {
			r.total += len(f.Points)
		}
		for _, f := range tried {
			r.skipped = append(r.skipped, f.Skipped...)
		}
		x.reached[key] = r
	}
	for _, skipped := range r.skipped {
		t.Log("not tried: ", skipped)
	}
	if r.stalls {
		t.Logf("the queue stalls with nobody interfering: only %s tried", contract.Count(len(r.points), "instruction was", "instructions were"))
	}
	return r, err
}

// windows groups breaches of the same promise at neighbouring points. A point between
// two of them that is open does not part them.
func windows(breaches []breach, open map[int]bool) (groups [][]breach) {
	for _, b := range breaches {
		if n := len(groups); n > 0 {
			last := groups[n-1][len(groups[n-1])-1]
			next := last.index + 1
			for open[next] {
				next++
			}
			if last.promise == b.promise && next == b.index && last.schedule.Point.Symbol == b.schedule.Point.Symbol {
				groups[n-1] = append(groups[n-1], b)
				continue
			}
		}
		groups = append(groups, []breach{b})
	}
	return groups
}

// replays is how often what breaks a promise is run again before it is reported.
func replays() (int, error) { return strconv.Atoi(os.Getenv("REPLAYS")) }

// countAgain runs what broke a promise again, and counts in the finding how often it
// does so again. The last such run is the finding's evidence. A nil result is of a run
// that was not what it should be, and does not count.
func countAgain(f *contract.Finding, run func() (result *stage.Result, promise contract.Promise, why string, err error)) error {
	again, err := replays()
	if err != nil {
		return err
	}
	for range again {
		result, promise, why, err := run()
		if err != nil {
			return err
		}
		if result == nil {
			continue
		}
		f.Tries++
		if promise == f.Promise {
			f.Failed++
			f.Why, f.Books, f.TimeLine = why, result.Books, result.TimeLine
		}
	}
	return nil
}

// confirm runs a schedule from the middle of a window again. Runs that are not
// what they say do not count.
func (x *exploration) confirm(t *testing.T, c contract.Contract, window []breach, reached int) (*contract.Finding, error) {
	first, middle, last := window[0], window[len(window)/2], window[len(window)-1]
	f := &contract.Finding{
		Promise: middle.promise, Contract: c, Points: len(window), Reached: reached,
		From: place(first.schedule.Point), To: place(last.schedule.Point),
		Opponent: middle.schedule.Opponent.Clause(), Schedule: middle.schedule.String(),
		Why: middle.why, Books: middle.books,
	}
	for _, b := range window {
		f.At = append(f.At, b.schedule.Point.Addr)
	}
	err := countAgain(f, func() (result *stage.Result, promise contract.Promise, why string, err error) {
		if result, err = x.decide(middle.schedule, stage.Patience); err != nil || result == nil {
			return nil, "", "", err
		}
		promise, why = schedule.Breach(result, c, middle.schedule)
		return result, promise, why, nil
	})
	if err != nil {
		return nil, err
	}
	if f.Failed > 0 {
		result, err := x.watched(t, middle.schedule)
		if err != nil || result == nil {
			return f, err
		}
		if promise, why := schedule.Breach(result, c, middle.schedule); promise == middle.promise {
			f.Why, f.Books, f.TimeLine = why, result.Books, result.TimeLine
		}
	}
	return f, nil
}

// watched runs a schedule once more, for a time line that says what the txq was like
// at each moment. To look takes time, so nothing is decided by it.
func (x *exploration) watched(t *testing.T, s schedule.Schedule) (*stage.Result, error) {
	x.runner.Watch = true
	defer func() { x.runner.Watch = false }()
	result, err := x.decide(s, stage.Patience)
	if x.runner.Unwatched != nil {
		t.Log("not shown: ", x.runner.Unwatched)
	}
	return result, err
}

// neighbour runs the kept schedule that is nearest to a window again, and returns
// it; nil if there is none, or if it does not keep the promise each time.
func (x *exploration) neighbour(t *testing.T, c contract.Contract, window []breach, kept map[int]schedule.Schedule) (*contract.Neighbour, error) {
	first, last := window[0], window[len(window)-1]
	nearest, distance := -1, 0
	for i := range kept {
		away := max(first.index-i, i-last.index)
		if nearest < 0 || away < distance || away == distance && i < nearest {
			nearest, distance = i, away
		}
	}
	if nearest < 0 {
		return nil, nil
	}
	s := kept[nearest]
	result, err := x.watched(t, s)
	if err != nil || result == nil {
		return nil, err
	}
	if promise, _ := schedule.Breach(result, c, s); promise != "" {
		return nil, nil
	}
	return &contract.Neighbour{Place: place(s.Point), Schedule: s.String(), TimeLine: result.TimeLine, Books: result.Books}, nil
}

func place(p disasm.Point) contract.Place {
	return contract.Place{Addr: p.Addr, Name: p.String(), Text: p.Text}
}

// replay runs one schedule alone.
func (x *exploration) replay(t *testing.T, id string) {
	s, err := schedule.Parse(subject, id)
	if err != nil {
		begin(t, contract.NoTailDrop, contract.NoStall)
		t.Fatal(err)
	}
	c, promises := x.begin(t, s.Setting)
	result, err := x.decide(s, stage.Patience)
	x.check(t, c, promises, err)
	if result == nil {
		for _, p := range promises {
			report(t, contract.Verdict{Promise: p, Contract: c, Outcome: contract.Undecided, Why: fmt.Sprintf("the instruction was not reached, or its CPU went on too early, %d times", attempts)})
		}
		return
	}
	t.Logf("held up at %v: %s\nmeanwhile: %s; it had to wait: %v\n%v", s.Point, s.Point.Text, s.Opponent.Clause(), result.Waited, result.Books)
	found := make(findings)
	if promise, why := schedule.Breach(result, c, s); promise != "" {
		f, err := x.confirm(t, c, []breach{{0, s, promise, why, result.Books}}, 1)
		x.check(t, c, promises, err)
		found.add(t, f)
	}
	x.replayed(t, c, promises, result, found)
}

// replayed reports the verdicts on a schedule that was run alone.
func (x *exploration) replayed(t *testing.T, c contract.Contract, promises []contract.Promise, result *stage.Result, found findings) {
	t.Helper()
	var unbalanced []error
	if result.Unbalanced != nil {
		t.Error(result.Unbalanced)
		unbalanced = append(unbalanced, result.Unbalanced)
	}
	unbalanced = x.audit(t, unbalanced)
	for _, p := range promises {
		v := found.verdict(p, c, "the schedule was run", unbalanced)
		v.Books = result.Books
		report(t, v)
	}
}
