// Package report writes the results of one run for people and programs: as text,
// HTML, JSON and other formats. It also compares runs.
package report

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// Run is everything that one run found out; verdict.json holds it.
type Run struct {
	// Version is that of the form in which this is written.
	Version int `json:"version"`
	// Dir is the run's directory of artifacts.
	Dir string `json:"dir"`
	// Label names the run beside others, for example "stock".
	Label string `json:"label,omitempty"`
	// Kernel is the path of the image that was booted, Arch what it was built for
	// (ARCH=; "" is x86_64), Release what it calls itself (uname -r), Preemption its
	// preemption model (contract.Hello), Accel what ran it (kvm or tcg) and why.
	Kernel      string `json:"kernel"`
	Arch        string `json:"arch,omitempty"`
	Release     string `json:"release"`
	Preemption  string `json:"preemption"`
	Accel       string `json:"accel"`
	AccelReason string `json:"accelReason"`
	// BuildID is the running kernel's GNU build id; "" if it has none.
	BuildID string `json:"buildID,omitempty"`
	// Modules are those that did not load, each with the reason.
	Modules []string `json:"modules,omitempty"`
	// Contract is what was asked for.
	Contract contract.Contract `json:"contract"`
	// Shard is "1/3" if this is the first of three parts of all tests; "" if it
	// is all of them.
	Shard string `json:"shard,omitempty"`
	// Command runs the same again, but for the flags of go test and the Seed of
	// random sequences. It is a line for a POSIX shell, in the directory of the
	// module, and needs nothing of the environment.
	Command string    `json:"command"`
	Seed    uint64    `json:"seed"`
	Started time.Time `json:"started"`
	// Seconds is how long the run took.
	Seconds float64 `json:"seconds"`
	// Verdicts are in the order in which the tests gave them.
	Verdicts []contract.Verdict `json:"verdicts"`
	// Findings are the interleavings that broke a promise, each as a check saw it;
	// Causes groups them.
	Findings []Finding `json:"findings,omitempty"`
	// Baselines are what other ways to look for bugs have found, of TestBaseline.
	Baselines []contract.Baseline `json:"baselines,omitempty"`
	// Cost are the tables of what the kernel costs, plain ASCII of 72 columns; "" if
	// that was not measured.
	Cost string `json:"cost,omitempty"`
	// Measured is what the tables of Cost are made of; nil if that was not measured, or
	// by an older version.
	Measured *Measured `json:"measured,omitempty"`
	// Unknown are the ways by which packets were freed and that no release of
	// ringproof knows yet, each with those counters that may be the one which
	// counts it: what every check allows.
	Unknown contract.Paths `json:"unknown,omitempty"`
	// Suite are all top-level tests, in the order in which they run.
	Suite []string `json:"suite,omitempty"`
	// Tests counts the leaves of the test tree by how they ended.
	Tests Tests `json:"tests"`
	// Errors are what went wrong other than a broken promise: a guest that
	// died, a report of the kernel's, an artifact that could not be written.
	// A run with errors has not passed.
	Errors []Fault `json:"errors,omitempty"`
	// Noise are reports of the kernel that decide nothing: they have nothing to
	// do with the device under test, or KNOWN names them.
	Noise []Fault `json:"noise,omitempty"`
}

// Tests counts tests that have no subtests.
type Tests struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

// AddUnknown adds paths that a check came by and does not know.
func (r *Run) AddUnknown(paths contract.Paths) {
	if r.Unknown == nil {
		r.Unknown = make(contract.Paths)
	}
	for path, counters := range paths {
		if known, ok := r.Unknown[path]; ok {
			counters = slices.DeleteFunc(slices.Clone(known), func(c contract.Counter) bool { return !slices.Contains(counters, c) })
		}
		r.Unknown[path] = counters
	}
}

// UnknownPaths says of each path what counts it, as far as the checks agree.
func (r *Run) UnknownPaths() (lines []string) {
	for _, path := range slices.Sorted(maps.Keys(r.Unknown)) {
		line := path + ": what counts them is not clear"
		var counters []string
		for _, c := range r.Unknown[path] {
			counters = append(counters, string(c))
		}
		if len(counters) > 0 {
			line = path + ": counted by " + strings.Join(counters, " or ")
		}
		lines = append(lines, line)
	}
	return lines
}

// Promise is what a run says about one promise.
type Promise struct {
	Promise contract.Promise
	// Outcome is Broken if any check says so, else Undecided if any could
	// not decide, else Kept if any check ran, else NotRun.
	Outcome contract.Outcome
	// Counts of the checks by outcome.
	Kept, Broken, Undecided, NotRun int
	// First is the first verdict that has this Outcome; nil if there is none.
	First *contract.Verdict
}

// promisesOf lists the promises that a run is about: what it costs only where that was
// measured.
func promisesOf(runs ...*Run) []contract.Promise {
	ids := contract.Promises()
	for _, r := range runs {
		if slices.ContainsFunc(r.Verdicts, func(v contract.Verdict) bool { return v.Promise == contract.Cost }) {
			return append(ids, contract.Cost)
		}
	}
	return ids
}

// Promises sums the verdicts up, one entry for each promise.
func (r *Run) Promises() []Promise {
	var sums []Promise
	for _, id := range promisesOf(r) {
		sums = append(sums, r.promise(id))
	}
	return sums
}

func (r *Run) promise(id contract.Promise) Promise {
	p := Promise{Promise: id, Outcome: contract.NotRun}
	for _, v := range r.Verdicts {
		if v.Promise != id {
			continue
		}
		switch v.Outcome {
		case contract.Kept:
			p.Kept++
		case contract.Broken:
			p.Broken++
		case contract.NotRun:
			p.NotRun++
		default:
			p.Undecided++
		}
		if v.Outcome.Outweighs(p.Outcome) {
			p.Outcome = v.Outcome
		}
	}
	if i := slices.IndexFunc(r.Verdicts, func(v contract.Verdict) bool {
		return v.Promise == id && v.Outcome == p.Outcome
	}); i >= 0 {
		p.First = &r.Verdicts[i]
	}
	return p
}

// Booted names the kernel that ran; a guest that never said what it is has no
// name.
func (r *Run) Booted() string {
	if r.Preemption == "" {
		return r.Release
	}
	if r.Arch != "" && r.Arch != "x86_64" {
		return r.Release + ", " + r.Arch + ", " + r.Preemption
	}
	return r.Release + ", " + r.Preemption
}

// Shout is the outcome for tables; a promise that no test was to decide was not
// tried.
func (p Promise) Shout() string {
	if p.Kept+p.Broken+p.Undecided+p.NotRun == 0 {
		return "not tried"
	}
	return shout(p.Outcome)
}

// NotRunFor groups the checks that could not run by what they lacked.
func (r *Run) NotRunFor() []string {
	tests := map[string]int{}
	var order []string
	for _, v := range r.Verdicts {
		if v.Outcome != contract.NotRun {
			continue
		}
		if tests[v.Why] == 0 {
			order = append(order, v.Why)
		}
		tests[v.Why]++
	}
	for i, why := range order {
		order[i] = contract.Count(tests[why], "check") + ": " + why
	}
	return order
}

// shout makes the outcomes that need a reader's eye stand out.
func shout(o contract.Outcome) string {
	if o == contract.Kept {
		return string(o)
	}
	return strings.ToUpper(string(o))
}

// ReplayTest is the command that runs one test alone.
func (r *Run) ReplayTest(test string) string {
	seed := uint64(0)
	if strings.HasPrefix(test, "TestFaults") {
		seed = r.Seed
	}
	return r.replay(ExactPattern(test), seed)
}

// ReplayFinding is the command that runs a finding's schedule or sequences alone.
func (r *Run) ReplayFinding(f *contract.Finding) string { return r.replay(f.Pattern(), f.Seed) }

func (r *Run) replay(pattern string, seed uint64) string {
	command := r.Command + " -run " + vm.Quote(pattern)
	if seed != 0 {
		command = fmt.Sprintf("SEED=%d %s", seed, command)
	}
	return command
}

// ExactPattern is the -run pattern that selects one test and no other.
func ExactPattern(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}
