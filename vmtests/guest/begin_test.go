package guest

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/kmsg"
)

// begin begins a test that is to decide these promises: it comes before anything
// that may end the test, so that the host knows what the test owes whatever ends
// it. It brackets the test in the kernel's log, and has its steps watched.
func begin(t *testing.T, decides ...contract.Promise) {
	t.Helper()
	skipBefore(t)
	pace.begin(t)
	if len(decides) > 0 {
		c := contractOf(t)
		attribute(t, contract.AttrOwes, contract.Owes{Contract: c, Promises: decides})
		if noTime(t) {
			for _, p := range decides {
				report(t, contract.Verdict{Promise: p, Contract: c, Outcome: contract.NotRun, Why: contract.NoTime})
			}
			t.Skip("not run: " + contract.NoTime)
		}
	}
	t.Attr(contract.AttrMarked, "1")
	if err := kmsg.Write(contract.MarkBegin(t.Name())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kmsg.Write(contract.MarkEnd(t.Name())); err != nil {
			t.Error(err)
		}
	})
	watched.begin(t)
}

// resumed is false until the test has come by in which the guest before this one
// died, which AFTER names.
var resumed = os.Getenv("AFTER") == ""

// skipBefore skips what the guest before this one has run.
func skipBefore(t *testing.T) {
	t.Helper()
	if resumed {
		return
	}
	resumed = t.Name() == os.Getenv("AFTER")
	t.Skip("run by another guest")
}

// costs are what the top-level tests took on one machine, in the order in which
// they run, in seconds: only how they relate to each other matters.
var costs = []struct {
	test    string
	seconds float64
	// only: nothing else decides what it does, and it follows tests that take
	// much more. Time is kept for it.
	only bool
}{
	{test: "TestNoqueueDrops", seconds: 15},
	{test: "TestNoStall", seconds: 40},
	{test: "TestNoTailDrop", seconds: 90},
	{test: "TestBackpressureFlag", seconds: 10},
	{test: "TestPairSchedules", seconds: 120},
	{test: "TestSchedules", seconds: 150},
	{test: "TestControlSchedules", seconds: 120},
	{test: "TestRequeueSchedules", seconds: 10, only: true},
	{test: "TestFaults", seconds: 20, only: true},
}

// pace is how fast this machine is.
var pace paced

type paced struct {
	start time.Time // of the first test
	// test is the top-level test that runs, began when it did, and done what those
	// before it cost.
	test  string
	began time.Time
	done  float64
}

func (p *paced) begin(t *testing.T) {
	test, _, _ := strings.Cut(t.Name(), "/")
	if p.test == test {
		return
	}
	now := time.Now()
	if p.start.IsZero() {
		p.start = now
	}
	for _, c := range costs {
		if c.test == p.test {
			p.done += c.seconds
		}
	}
	p.test, p.began = test, now
}

// factor is how many times as long as there the tests take that are done; 1 if
// they take less, or none is.
func (p *paced) factor() float64 {
	if p.done == 0 {
		return 1
	}
	return max(1, p.began.Sub(p.start).Seconds()/p.done)
}

// tooLate is how much time is left before go test's -timeout when no check is begun
// any more, or a quarter of all: whatever takes longer looks at the clock meanwhile.
const tooLate = 20 * time.Second

// noTime says whether go test's -timeout leaves too little to begin another check
// of the running test, or to go on with one that looks at the clock.
func noTime(t *testing.T) bool {
	deadline, ok := t.Deadline()
	if !ok {
		return false
	}
	keep := min(tooLate, deadline.Sub(pace.start)/4).Seconds()
	// With -run, it is not known what follows.
	if all := flag.Lookup("test.run").Value.String() == ""; all && !testing.Short() {
		for i := len(costs) - 1; i >= 0 && costs[i].test != pace.test; i-- {
			if costs[i].only {
				keep += costs[i].seconds
			}
		}
	}
	return time.Until(deadline).Seconds() < keep*pace.factor()
}
