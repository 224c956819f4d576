package report

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// nipaResults is what an executor of netdev's CI publishes of a branch
// (https://github.com/linux-netdev/nipa, contest/remote/lib/fetcher.py).
type nipaResults struct {
	Executor string     `json:"executor"`
	Branch   string     `json:"branch"`
	Start    string     `json:"start"`
	End      string     `json:"end"`
	Results  []nipaTest `json:"results"`
}

type nipaTest struct {
	Test   string `json:"test"`
	Group  string `json:"group"`
	Result string `json:"result"` // pass, fail, skip or warn
	Link   string `json:"link"`
	// Crashes are the functions of each trace that the kernel logged.
	Crashes []string     `json:"crashes,omitempty"`
	Results []nipaNested `json:"results,omitempty"`
}

type nipaNested struct {
	Test   string `json:"test"`
	Result string `json:"result"`
}

// NIPAResult is an outcome in the words of netdev's CI.
func NIPAResult(o contract.Outcome) string {
	switch o {
	case contract.Kept:
		return "pass"
	case contract.Broken:
		return "fail"
	case contract.NotRun:
		return "skip"
	}
	return "warn"
}

// NIPA is the run as an executor of netdev's CI reports it: a test for each promise
// that was tried, and one for the kernel's health, with the checks nested in it. link
// is where the artifacts can be read.
func (r *Run) NIPA(branch, link string) ([]byte, error) {
	const stamp = "2006-01-02 15:04:05.000000-07:00" // as Python writes a datetime
	start := r.Started.UTC()
	out := nipaResults{
		Executor: "ringproof", Branch: branch,
		Start: start.Format(stamp), End: start.Add(time.Duration(r.Seconds * float64(time.Second))).Format(stamp),
		Results: []nipaTest{},
	}
	for _, p := range r.Promises() {
		if p.Shout() == "not tried" {
			continue
		}
		test := nipaTest{Test: string(p.Promise), Group: "ringproof", Result: NIPAResult(p.Outcome), Link: link}
		for _, v := range r.Verdicts {
			if v.Promise == p.Promise {
				test.Results = append(test.Results, nipaNested{nipaName(v.Test), NIPAResult(v.Outcome)})
			}
		}
		out.Results = append(out.Results, test)
	}
	health := nipaTest{Test: "kernel-health", Group: "ringproof", Result: "pass", Link: link}
	for _, f := range r.Errors {
		switch {
		case f.Kind != Kernel:
			if health.Result == "pass" {
				health.Result = "warn"
			}
		default:
			health.Result = "fail"
			if print := fingerprint(f.What); print != "" && !slices.Contains(health.Crashes, print) {
				health.Crashes = append(health.Crashes, print)
			}
		}
	}
	out.Results = append(out.Results, health)
	data, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the results for NIPA: %w", err)
	}
	return append(data, '\n'), nil
}

// nipaName makes a name of a test's that has no slashes, as those of nested tests.
func nipaName(test string) string {
	return strings.Trim(notInNames.ReplaceAllString(test, "-"), "-")
}

var (
	notInNames = regexp.MustCompile(`[^0-9a-zA-Z]+`)
	frame      = regexp.MustCompile(`(?m)(?:  |0:|>\] )([a-z0-9_]+)\+0x[0-9a-f]+/0x[0-9a-f]+`)
)

// fingerprint names a trace by its first five functions (contest/remote/lib/crash.py:
// crash_finger_print).
func fingerprint(text string) string {
	var functions []string
	for _, m := range frame.FindAllStringSubmatch(text, 5) {
		functions = append(functions, m[1])
	}
	return strings.Join(functions, ":")
}
