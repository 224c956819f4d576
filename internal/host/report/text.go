package report

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// Text is verdict.txt: the table of promises, each finding, why each promise was
// not kept that no finding says, and what could not run.
func (r *Run) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kernel    %s %s\ncontract  %s\n", r.Booted(), r.Kernel, r.Contract)
	if r.Accel != "" {
		fmt.Fprintf(&b, "run by    %s: %s\n", r.Accel, r.AccelReason)
	}
	if r.Shard != "" {
		fmt.Fprintf(&b, "shard     %s: a part of all tests\n", r.Shard)
	}
	fmt.Fprintf(&b, "time      %.1f s\n\n", r.Seconds)
	r.table(&b)
	causes := r.Causes()
	for i, c := range causes {
		b.WriteString("\n" + c.text(i+1))
	}
	for _, p := range r.Promises() {
		verdicts := r.Unexplained(p)
		if len(verdicts) == 0 || p.Outcome == contract.Kept {
			continue
		}
		first := verdicts[0]
		fmt.Fprintf(&b, "\n%s: %s, in %s, first in %s\n    %s\n", p.Promise, p.Outcome, contract.Count(len(verdicts), "check"), first.Test, first.Why)
		if first.Books != nil {
			fmt.Fprintf(&b, "    %s\n", first.Books)
		}
		if first.Test != "" {
			fmt.Fprintf(&b, "    replay: %s\n", r.ReplayTest(first.Test))
		}
	}
	for _, why := range r.NotRunFor() {
		fmt.Fprintf(&b, "\nnot run: %s\n", why)
	}
	for _, m := range r.Modules {
		fmt.Fprintf(&b, "\nnot loaded: module %s\n", m)
	}
	for _, path := range r.UnknownPaths() {
		fmt.Fprintf(&b, "\nunknown path: packets were freed by %s\n", path)
	}
	for _, f := range r.Noise {
		title, _, _ := strings.Cut(f.What, "\n")
		fmt.Fprintf(&b, "\nreported by the kernel, decides nothing: %s\n", title)
	}
	for _, f := range r.Errors {
		fmt.Fprintf(&b, "\n%v\n", f)
	}
	fmt.Fprintf(&b, "\n%s passed, %d failed, %d skipped\nartifacts: %s\n", contract.Count(r.Tests.Passed, "test"), r.Tests.Failed, r.Tests.Skipped, r.Dir)
	return b.String()
}

// table shows the promises.
func (r *Run) table(b *strings.Builder) {
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "PROMISE\tVERDICT\tKEPT\tBROKEN\tUNDECIDED\tNOT RUN")
	for _, p := range r.Promises() {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%d\t%d\n", p.Promise, p.Shout(), p.Kept, p.Broken, p.Undecided, p.NotRun)
	}
	tw.Flush()
}

// Unexplained are the verdicts with the promise's outcome that no finding belongs to.
func (r *Run) Unexplained(p Promise) []*contract.Verdict {
	var all []*contract.Verdict
	for i := range r.Verdicts {
		v := &r.Verdicts[i]
		if v.Promise == p.Promise && v.Outcome == p.Outcome && !r.found(v) {
			all = append(all, v)
		}
	}
	return all
}

// found is whether a finding says why the verdict is what it is.
func (r *Run) found(v *contract.Verdict) bool {
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Test == v.Test && f.Promise == v.Promise && v.Outcome == contract.Broken {
			return true
		}
	}
	return false
}

// width is how long a line of prose is at most.
const width = 92

// text is the cause for people; nth counts them.
func (c *Cause) text(nth int) string {
	var b strings.Builder
	f := c.First()
	fmt.Fprintf(&b, "finding %d: %s is broken, %s\n", nth, c.Promise, c.Seen())
	b.WriteString(Fill("because ", "    ", c.Because(), width))
	indent := func(what string) {
		for line := range strings.Lines(what) {
			b.WriteString("    " + line)
		}
	}
	for _, s := range c.Sources() {
		if s.Lines == nil {
			continue
		}
		fmt.Fprintf(&b, "\n    %s, %s, where the %s is held up:\n", s.File, s.Function, c.Sides(s.Symbol))
		indent(s.Text())
	}
	if len(f.TimeLine) > 0 {
		b.WriteString("\n")
		indent(timeLine(f.TimeLine))
	}
	if f.Kept != nil {
		fmt.Fprintf(&b, "\n    kept when held up at %s: %s\n", f.Kept.Place.Name, f.Kept.Place.Text)
		for i, m := range f.Kept.TimeLine {
			mark := "  "
			if i == f.Differs() {
				mark = "> "
			}
			b.WriteString("    " + mark + strings.TrimPrefix(timeLine([]contract.Moment{m}), "  "))
		}
	}
	b.WriteString("\n")
	if f.Books != nil {
		fmt.Fprintf(&b, "    %s\n", f.Books)
	}
	if f.Script == "" {
		fmt.Fprintf(&b, "    again: %d of %s\n", f.Failed, contract.Count(f.Tries, "time"))
	}
	for _, w := range c.Windows() {
		fmt.Fprintf(&b, "    window: %v\n", w)
	}
	if settings := c.Settings(); len(settings) > 1 {
		b.WriteString(Fill("settings: ", "    ", strings.Join(settings, ", "), width))
	}
	fmt.Fprintf(&b, "    replay: %s\n", f.Replay)
	return b.String()
}

// Seen says in how many settings.
func (c *Cause) Seen() string {
	return "seen in " + contract.Count(len(c.Settings()), "setting")
}

// Differs is the first moment in which the time line of the schedule that kept the
// promise is another than the finding's; -1 if none is.
func (f *Finding) Differs() int {
	for i, m := range f.Kept.TimeLine {
		if i >= len(f.TimeLine) || f.TimeLine[i].Who != m.Who || f.TimeLine[i].What != m.What || !same(f.TimeLine[i].Queue, m.Queue) {
			return i
		}
	}
	return -1
}

func same(a, b *contract.Queue) bool { return a == b || a != nil && b != nil && *a == *b }

// timeLine shows moments, one a line.
func timeLine(moments []contract.Moment) string {
	var b strings.Builder
	for _, m := range moments {
		fmt.Fprintf(&b, "  %11s  %-10s  %s", since(m.At), m.Who, m.What)
		if m.Queue != nil {
			fmt.Fprintf(&b, " (%v)", m.Queue)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func since(at time.Duration) string { return fmt.Sprintf("%.3f ms", float64(at.Microseconds())/1000) }

// Fill breaks prose into lines of at most that many characters, each with an
// indent, the first with a label as well. A word that is longer than a line is broken
// behind a "/", as tests have them in their names.
func Fill(label, indent, prose string, width int) string {
	var b strings.Builder
	line := indent + label
	var words []string
	for _, word := range strings.Fields(prose) {
		for room := width - len(indent); len(word) > room; {
			at := strings.LastIndexByte(word[:room], '/') + 1
			if at == 0 {
				at = room
			}
			words, word = append(words, word[:at]), word[at:]
		}
		words = append(words, word)
	}
	for _, word := range words {
		if len(strings.TrimRight(line, " "))+1+len(word) > width && strings.TrimSpace(line) != "" {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent
		}
		line += word + " "
	}
	return b.String() + strings.TrimRight(line, " ") + "\n"
}
