package run

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// Check is one execution of one test, as whoever replays it sees it. It holds
// the test to what it owes: when the test has ended, in whatever way, each of
// its promises has a verdict, and if it failed, something in the report says why.
type Check struct {
	run     *Run
	test    string
	owes    contract.Owes
	decided []contract.Promise
	said    string      // what the test said last
	at      contract.At // the last step that it said to begin
	told    bool        // a verdict, a fault or a subtest says why it failed
	overdue *contract.Overdue
	nth     int // of the run
}

// Check begins one for a test.
func (r *Run) Check(test string) *Check {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks++
	return &Check{run: r, test: test, nth: r.checks}
}

// Attribute records what the test tells by an attribute, and returns it: see
// contract.Attribute.
func (c *Check) Attribute(key, value string) (any, error) {
	what, err := contract.Attribute(key, value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.test, err)
	}
	switch what := what.(type) {
	case contract.Owes:
		c.owes = what
	case contract.Verdict:
		c.Verdict(what)
	case contract.Baseline:
		c.run.baseline(what)
	case contract.Paths:
		c.run.unknown(what)
	case contract.At:
		if what.Again != "" {
			c.at = what
		}
	case contract.Overdue:
		c.overdue = &what
	}
	return what, nil
}

// Verdict records what the test found out about a promise.
func (c *Check) Verdict(v contract.Verdict) {
	c.decided = append(c.decided, v.Promise)
	c.told = c.told || v.Outcome == contract.Broken || v.Outcome == contract.Undecided
	v.Nth = c.nth
	c.run.Verdict(v)
}

// Fault records what went wrong while the test ran, other than a broken promise.
func (c *Check) Fault(kind report.Kind, what string) {
	c.told = true
	c.run.Fault(report.Fault{Kind: kind, Test: c.test, What: what})
}

// Overdue records what an Overdue makes of no-stall, with the guest's stacks as
// evidence. It returns false if nothing is overdue.
func (c *Check) Overdue(evidence string) bool {
	if c.overdue == nil {
		return false
	}
	outcome, why := c.overdue.Outcome()
	c.Verdict(contract.Verdict{
		Test: c.test, Promise: contract.NoStall, Contract: c.owes.Contract, Outcome: outcome,
		Why: why, Evidence: evidence,
	})
	if outcome != contract.Broken {
		c.Fault(report.Harness, why)
	}
	return true
}

// Reported records what the kernel reported while the test ran.
func (c *Check) Reported(k vm.KernelReport) {
	c.told = true
	c.run.Fault(report.Fault{Kind: report.Kernel, Test: c.test, Title: k.Title, What: k.Title + "\n" + k.Text})
}

// Told says that a subtest has failed, and tells why.
func (c *Check) Told() { c.told = true }

// logged matches a line with which testing begins a message, without its file
// and line.
var logged = regexp.MustCompile(`^ *\w+_test\.go:\d+: (.*)`)

// Said notes what the test has printed, a line: the last message of a test that
// ends early is the reason for it.
func (c *Check) Said(line string) {
	switch message := logged.FindStringSubmatch(line); {
	case message != nil:
		c.said = message[1]
	case strings.HasPrefix(line, "panic: "):
		c.said = strings.TrimSpace(line)
	}
}

// Panic is what the test program says if it panics, after the test which did so has
// failed: ": panic: ..."; "" if it has not.
func (c *Check) Panic() string {
	if strings.HasPrefix(c.said, "panic: ") {
		return ": " + c.said
	}
	return ""
}

// Ended records what the test has left open: ended is "pass", "fail" or "skip"
// as test2json has it, or what ended the guest before it ended the test.
func (c *Check) Ended(ended string) {
	reason := "it does not say why"
	if c.said != "" {
		reason = c.said
	}
	cut := !slices.Contains([]string{"pass", "fail", "skip"}, ended)
	if cut {
		reason = ended
		if c.at.Again != "" {
			reason += fmt.Sprintf("; the last that began was %s; again: %s", c.at.Doing, c.at.Again)
		}
	}
	for _, p := range c.owes.Promises {
		if slices.Contains(c.decided, p) {
			continue
		}
		c.Verdict(contract.Verdict{
			Test: c.test, Promise: p, Contract: c.owes.Contract, Outcome: contract.Undecided,
			Why: "the test ended before it decided this: " + reason,
		})
	}
	if !c.told && (cut || ended == "fail") {
		c.Fault(report.Harness, fmt.Sprintf("the test failed and no verdict says why: %s", reason))
	}
}
