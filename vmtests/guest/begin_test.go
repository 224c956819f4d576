package guest

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/kmsg"
)

// begin begins a test that is to decide these promises: it comes before anything
// that may end the test, so that the host knows what the test owes whatever ends
// it. It brackets the test in the kernel's log, and has its steps watched.
func begin(t *testing.T, decides ...contract.Promise) {
	t.Helper()
	skipBefore(t)
	skipElsewhere(t)
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
	measure(t)
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

// skipElsewhere skips a test of another shard than the one that SHARD names.
func skipElsewhere(t *testing.T) {
	t.Helper()
	shard, err := contract.ParseShard(os.Getenv("SHARD"))
	if err != nil {
		t.Fatal(err)
	}
	if !shard.Has(t.Name()) {
		t.Skip("a test of another shard")
	}
}

// clock is what is known of how fast this machine is.
var clock struct {
	start time.Time // of the first test
	// longest is what the longest check has taken that does not look at the clock, or
	// the longest search for what another one is to try.
	longest time.Duration
	looked  bool // the running test does
}

// measure measures the test.
func measure(t *testing.T) {
	began := time.Now()
	clock.looked = false
	t.Cleanup(func() {
		if !clock.looked {
			tookSince(began)
		}
	})
}

// tookSince measures what did not look at the clock since then.
func tookSince(began time.Time) {
	clock.longest = max(clock.longest, time.Since(began))
}

// tooLate is how much time is left before go test's -timeout, or a quarter of all,
// when no check is begun any more.
const tooLate = 20 * time.Second

// noTime says whether go test's -timeout leaves too little to begin a check, or to
// go on with one that may take long, and looks at the clock meanwhile.
func noTime(t *testing.T) bool {
	clock.looked = true
	deadline, ok := t.Deadline()
	if clock.start.IsZero() {
		clock.start = time.Now()
	}
	return ok && time.Until(deadline) < max(min(tooLate, deadline.Sub(clock.start)/4), 2*clock.longest)
}

// notRun ends a test, which would need something that the kernel lacks.
func notRun(t *testing.T, c contract.Contract, promises []contract.Promise, lacks string) {
	t.Helper()
	for _, p := range promises {
		report(t, contract.Verdict{Promise: p, Contract: c, Outcome: contract.NotRun, Why: "this kernel lacks " + lacks})
	}
	t.Skip("not run: this kernel lacks " + lacks)
}

// lacking does so if err says that the kernel lacks something.
func lacking(t *testing.T, c contract.Contract, promises []contract.Promise, err error) {
	t.Helper()
	if missing := (*kernelfeature.MissingError)(nil); errors.As(err, &missing) {
		notRun(t, c, promises, fmt.Sprintf("%s: %s", missing.Option, missing.What))
	}
}
