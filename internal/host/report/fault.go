package report

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// Kind says whose a Fault is.
type Kind string

const (
	// Kernel: the kernel under test died, does not boot, or reported something
	// about itself. It says nothing of a promise.
	Kernel Kind = "kernel"
	// SetUp: what the run was given, or the machine that it ran on: a file that
	// is not there, a disk that is full, a QEMU that was killed, too little time.
	SetUp Kind = "set-up"
	// Harness: ringproof itself.
	Harness Kind = "harness"
)

// Whose says whose fault it is that a guest ended before its program had, or that its
// program failed.
func Whose(r *vm.Result) Kind {
	switch {
	case r.Stale || r.Lost != nil:
		return SetUp
	case r.Ending == vm.Exited:
		return Harness
	case slices.Contains([]vm.Ending{vm.Panicked, vm.OutOfMemory, vm.Hung, vm.Overdue, vm.NotBooted, vm.Reset}, r.Ending):
		return Kernel
	}
	return SetUp
}

// Fault is something that went wrong, other than a broken promise.
type Fault struct {
	Kind Kind `json:"kind"`
	// Test is the one that ran; "" if none did.
	Test string `json:"test,omitempty"`
	// Title is the line of the kernel's log that says so, of what it reported.
	Title string `json:"title,omitempty"`
	// What is what happened. Its first line says it, the others are evidence.
	What string `json:"what"`
}

// String is the fault for people.
func (f Fault) String() string {
	// A run of an older version does not say whose.
	whose := map[Kind]string{Kernel: " of the kernel", SetUp: " of the set-up", Harness: " of ringproof"}[f.Kind]
	test := ""
	if f.Test != "" {
		test = f.Test + ": "
	}
	what := f.What
	if f.Title != "" && f.Test != "" {
		what = "it reported " + f.Title // the test's output has the rest
	}
	return fmt.Sprintf("fault%s: %s%s", whose, test, strings.TrimRight(what, "\n"))
}

// Has says whether the run has a fault of that kind.
func (r *Run) Has(k Kind) bool {
	for _, f := range r.Errors {
		if f.Kind == k {
			return true
		}
	}
	return false
}

// NoneRan has a fault for each promise whose checks could not run. Checks for which
// there was no time do not count.
func (r *Run) NoneRan() (faults []Fault) {
	for _, p := range r.Promises() {
		if p.Outcome == contract.NotRun && p.First != nil && p.First.Why != contract.NoTime {
			faults = append(faults, Fault{Kind: Kernel, What: fmt.Sprintf("%s: its %s could not run: %s", p.Promise, contract.Count(p.NotRun, "check"), p.First.Why)})
		}
	}
	return faults
}

// varies matches what differs in a report's title from one boot to the next.
var varies = regexp.MustCompile(`CPU: \d+ PID: \d+|CPU#\d+: \S+|\d+`)

// Reported returns patterns for KNOWN, of what the kernel reported in the run.
func (r *Run) Reported() (patterns []string) {
	for _, f := range slices.Concat(r.Errors, r.Noise) {
		if f.Title == "" {
			continue
		}
		var pattern string
		last := 0
		for _, at := range varies.FindAllStringIndex(f.Title, -1) {
			pattern += regexp.QuoteMeta(f.Title[last:at[0]])
			if what := f.Title[at[0]:at[1]]; strings.Contains(what, "CPU") {
				pattern += `CPU.*`
			} else {
				pattern += `\d+`
			}
			last = at[1]
		}
		pattern += regexp.QuoteMeta(f.Title[last:])
		if !slices.Contains(patterns, pattern) {
			patterns = append(patterns, pattern)
		}
	}
	return patterns
}
