package report

import (
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// suite is what one top-level test found out.
type suite struct {
	name  string
	cases []testCase
}

// testCase is a verdict, or a fault, for formats that know tests alone.
type testCase struct {
	name    string
	promise contract.Promise // "" of a fault
	outcome contract.Outcome // undecided of a fault
	why     string           // its first line says it
}

// suites are the verdicts by top-level test, and then the faults: a reader that
// counts tests must not take a run with faults for one that passed.
func (r *Run) suites() []suite {
	var all []suite
	add := func(name string, c testCase) {
		for i := range all {
			if all[i].name == name {
				all[i].cases = append(all[i].cases, c)
				return
			}
		}
		all = append(all, suite{name, []testCase{c}})
	}
	for _, v := range r.Verdicts {
		root, name, _ := strings.Cut(v.Test, "/")
		if root == "" {
			root = "run" // what befell it between tests
		}
		why := v.Why
		if v.Books != nil {
			why += "\n" + v.Books.String()
		}
		add(root, testCase{strings.TrimPrefix(name+" "+string(v.Promise), " "), v.Promise, v.Outcome, why})
	}
	for _, f := range r.Errors {
		name := "fault"
		if f.Kind != "" {
			name += " of the " + string(f.Kind)
		}
		if f.Test != "" {
			name += " in " + f.Test
		}
		add("faults", testCase{name, "", contract.Undecided, f.String()})
	}
	if all == nil {
		add("faults", testCase{"nothing", "", contract.Undecided, "no check has run"})
	}
	return all
}

// outcome is the one that says most, as in Promises.
func (s suite) outcome() contract.Outcome {
	for _, o := range []contract.Outcome{contract.Broken, contract.Undecided, contract.Kept} {
		for _, c := range s.cases {
			if c.outcome == o {
				return o
			}
		}
	}
	return contract.NotRun
}

// ktap is the run as tests of the kernel are (Documentation/dev-tools/ktap.rst): a
// promise that is broken is not ok, one that is undecided is not ok because of an
// error, and a check that could not run is skipped.
func (r *Run) ktap() ([]byte, error) {
	var b strings.Builder
	suites := r.suites()
	fmt.Fprintf(&b, "KTAP version 1\n1..%d\n", len(suites))
	result := func(indent string, n int, name string, outcome contract.Outcome, why string) {
		// A "#" begins a directive.
		name = strings.ReplaceAll(name, "#", "_")
		why, _, _ = strings.Cut(why, "\n")
		switch outcome {
		case contract.Kept:
			fmt.Fprintf(&b, "%sok %d %s\n", indent, n, name)
		case contract.Broken:
			fmt.Fprintf(&b, "%snot ok %d %s\n", indent, n, name)
		case contract.NotRun:
			fmt.Fprintf(&b, "%sok %d %s # SKIP %s\n", indent, n, name, why)
		default:
			fmt.Fprintf(&b, "%snot ok %d %s # ERROR %s\n", indent, n, name, why)
		}
	}
	for i, s := range suites {
		const indent = "  "
		fmt.Fprintf(&b, "%sKTAP version 1\n%s# Subtest: %s\n%s1..%d\n", indent, indent, s.name, indent, len(s.cases))
		for j, c := range s.cases {
			if c.outcome != contract.Kept {
				for line := range strings.Lines(c.why) {
					fmt.Fprintf(&b, "%s# %s\n", indent, strings.TrimRight(line, "\n"))
				}
			}
			result(indent, j+1, c.name, c.outcome, c.why)
		}
		result("", i+1, s.name, s.outcome(), s.cases[0].why)
	}
	return []byte(b.String()), nil
}
