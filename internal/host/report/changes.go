package report

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ringproof/ringproof/internal/contract"
)

// Changes says what is different in b from what it is in a: promises, findings that
// appeared and went, and single checks.
func Changes(a, b *Run) string {
	var s strings.Builder
	for i, was := range a.Promises() {
		if is := b.Promises()[i]; is.Shout() != was.Shout() {
			fmt.Fprintf(&s, "  %s: %s, was %s\n", is.Promise, is.Shout(), was.Shout())
		}
	}
	was, is := a.Causes(), b.Causes()
	for _, c := range is {
		if !slices.ContainsFunc(was, c.like) {
			fmt.Fprintf(&s, "  appeared: %s\n", c.line())
		}
	}
	for _, c := range was {
		if !slices.ContainsFunc(is, c.like) {
			gone := "went"
			if !b.tried(c) {
				gone = "not tried again"
			}
			fmt.Fprintf(&s, "  %s: %s\n", gone, c.line())
		}
	}
	changed := make(map[string][]string) // tests, by promise and outcomes
	var order []string
	before := make(map[string]contract.Outcome)
	for _, v := range a.Verdicts {
		before[string(v.Promise)+" "+v.Test] = v.Outcome
	}
	for _, v := range b.Verdicts {
		old, both := before[string(v.Promise)+" "+v.Test]
		if !both || old == v.Outcome {
			continue
		}
		how := fmt.Sprintf("%s, %s, was %s", v.Promise, v.Outcome, old)
		if changed[how] == nil {
			order = append(order, how)
		}
		changed[how] = append(changed[how], v.Test)
	}
	for _, how := range order {
		fmt.Fprintf(&s, "  %s: %s, first %s\n", contract.Count(len(changed[how]), "check"), how, changed[how][0])
	}
	if x, y := len(a.Errors), len(b.Errors); x != y {
		fmt.Fprintf(&s, "  %s, was %d\n", contract.Count(y, "fault"), x)
	}
	if s.Len() == 0 {
		return "  nothing\n"
	}
	return s.String()
}

// like says whether two causes, of different kernels, are of the same promise in the
// same functions: offsets in a function say nothing in another build.
func (c *Cause) like(o *Cause) bool {
	if c.Promise != o.Promise {
		return false
	}
	if mine, theirs := c.First().shape(), o.First().shape(); mine.script != "" || theirs.script != "" {
		return mine.sameCause(&theirs)
	}
	return slices.ContainsFunc(c.Windows(), func(w Window) bool {
		return slices.ContainsFunc(o.Windows(), func(v Window) bool { return v.symbol == w.symbol })
	})
}

// line names the cause in one line.
func (c *Cause) line() string {
	where := strings.Split(c.First().Script, "\n")
	if c.First().Script == "" {
		where = nil
		for _, w := range c.Windows() {
			where = append(where, w.String())
		}
	}
	return fmt.Sprintf("%s in %s (%s)", c.Promise, strings.Join(where, ", "), c.Seen())
}

// tried says whether the run has decided a check in which the cause was found.
func (r *Run) tried(c *Cause) bool {
	return slices.ContainsFunc(c.Findings, func(f *Finding) bool {
		return slices.ContainsFunc(r.Verdicts, func(v contract.Verdict) bool {
			return v.Test == f.Test && v.Promise == c.Promise && (v.Outcome == contract.Kept || v.Outcome == contract.Broken)
		})
	})
}

// Revisions shows the promises of runs, one run a line, and below what changed from
// each to the next.
func Revisions(runs ...*Run) string {
	var s strings.Builder
	tw := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "REVISION")
	for _, p := range promisesOf(runs...) {
		fmt.Fprintf(tw, "\t%s", strings.ToUpper(string(p)))
	}
	fmt.Fprintln(tw, "\tFINDINGS\tFAULTS")
	for _, r := range runs {
		fmt.Fprint(tw, r.Label)
		for _, id := range promisesOf(runs...) {
			fmt.Fprintf(tw, "\t%s", r.promise(id).Shout())
		}
		fmt.Fprintf(tw, "\t%d\t%d\n", len(r.Causes()), len(r.Errors))
	}
	tw.Flush()
	for i := 1; i < len(runs); i++ {
		fmt.Fprintf(&s, "\n%s, after %s:\n%s", runs[i].Label, runs[i-1].Label, Changes(runs[i-1], runs[i]))
	}
	return s.String()
}
