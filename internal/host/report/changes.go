package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
)

// Changes says what is different in b from what it is in a: promises, findings that
// appeared and went, and single checks.
func Changes(a, b *Run) string {
	var s strings.Builder
	for _, id := range promisesOf(a, b) {
		if is, was := b.promise(id).Shout(), a.promise(id).Shout(); is != was {
			fmt.Fprintf(&s, "  %s: %s, was %s\n", id, is, was)
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
		before[check(v)] = v.Outcome
	}
	for _, v := range b.Verdicts {
		old, both := before[check(v)]
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
	s.WriteString(costChanges(a.Measured, b.Measured))
	if x, y := len(a.Errors), len(b.Errors); x != y {
		fmt.Fprintf(&s, "  %s, was %d\n", contract.Count(y, "fault"), x)
	}
	if s.Len() == 0 {
		return "  nothing\n"
	}
	return s.String()
}

// check names what a verdict is of: what a workload costs has one for each unit, with
// which its reason begins.
func check(v contract.Verdict) string {
	name := string(v.Promise) + " " + v.Test
	if v.Promise == contract.Cost {
		unit, _, _ := strings.Cut(v.Why, ":")
		name += " " + unit
	}
	return name
}

// mostCosts is how many changes of cost are listed.
const mostCosts = 6

// costChanges says by how much b costs another than a, the largest change first. Only
// what has a limit is compared, and listed only if the intervals are apart. Times are
// compared as ratios to the base of each, which was measured on the same machine; so the
// bases must be one kernel.
func costChanges(a, b *Measured) string {
	if a == nil || b == nil || len(a.Variants) == 0 || len(b.Variants) == 0 {
		return ""
	}
	type change struct {
		ratio float64
		what  string
	}
	var changes []change
	unsure, bases := 0, 0
	for i := range b.Values {
		is := &b.Values[i]
		now := b.variant(is.Variant)
		if now == nil || !now.Own || is.Limit == 0 {
			continue
		}
		then := a.own(now.Backpressure)
		if then == nil {
			continue
		}
		was := a.find(then.Name, is.Workload, is.Ruler, is.Unit)
		if was == nil {
			continue
		}
		before, after := was.span(), is.span()
		if is.Ruler == "time" {
			if then.Base != now.Base {
				bases++
				continue
			}
			before = before.over(a.find(then.Base, is.Workload, is.Ruler, is.Unit).span())
			after = after.over(b.find(now.Base, is.Workload, is.Ruler, is.Unit).span())
		}
		if !before.known() || !after.known() {
			unsure++
			continue
		}
		ratio := after.center / before.center
		const least = 0.0005 // else it is printed as 1
		if after.lo <= before.hi && before.lo <= after.hi || math.Abs(ratio-1) < least {
			continue
		}
		c := change{ratio, fmt.Sprintf("%s in %s", is.Unit, cost.Short(is.Workload))}
		if now.Backpressure {
			c.what += ", with the flag"
		}
		changes = append(changes, c)
	}
	far := func(c change) float64 { return math.Abs(math.Log(c.ratio)) }
	slices.SortStableFunc(changes, func(x, y change) int { return cmp.Compare(far(y), far(x)) })
	var s strings.Builder
	for i, c := range changes {
		if i == mostCosts {
			fmt.Fprintf(&s, "  cost: %d more changed, none of them to more than %.4g or less than %.4g times\n", len(changes)-i, math.Exp(far(c)), math.Exp(-far(c)))
			break
		}
		fmt.Fprintf(&s, "  cost: %.4g times the %s\n", c.ratio, c.what)
	}
	if unsure > 0 {
		fmt.Fprintf(&s, "  cost: %s not compared, for lack of an interval\n", contract.Count(unsure, "value is", "values are"))
	}
	if bases > 0 {
		fmt.Fprintf(&s, "  cost: %s not compared, because the bases have different names\n", contract.Count(bases, "time is", "times are"))
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
