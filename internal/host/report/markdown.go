package report

import (
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// markdown is a summary for a forge, or for a job of its CI.
func (r *Run) markdown() ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "## ringproof: %s\n\n", r.Headline())
	fmt.Fprintf(&b, "Kernel %s, contract %s", code(r.Booted()), code(string(r.Contract)))
	if r.Accel != "" {
		fmt.Fprintf(&b, ", run by %s in %.0f s", r.Accel, r.Seconds)
	}
	b.WriteString(".\n\n| promise | verdict | kept | broken | undecided | not run |\n|---|---|--:|--:|--:|--:|\n")
	for _, p := range r.Promises() {
		verdict := p.Shout()
		if p.Outcome == contract.Broken {
			verdict = "**" + verdict + "**"
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d |\n", p.Promise, verdict, p.Kept, p.Broken, p.Undecided, p.NotRun)
	}
	for i, c := range r.Causes() {
		f := c.First()
		fmt.Fprintf(&b, "\n### Finding %d: %s is broken, %s\n\n%s\n", i+1, c.Promise, c.Seen(), escape(c.Because()))
		for _, s := range c.Sources() {
			if s.Lines != nil {
				fmt.Fprintf(&b, "\n%s, %s, where the %s is held up:\n\n%s", code(s.File), code(s.Function), c.Sides(s.Symbol), fence("c", s.Text()))
			}
		}
		if len(f.TimeLine) > 0 {
			b.WriteString("\n" + fence("text", timeLine(f.TimeLine)))
		}
		fmt.Fprintf(&b, "\nIt breaks in %d of %s. Replay:\n\n%s", f.Failed, contract.Count(f.Tries, "run"), fence("sh", f.Replay))
	}
	for _, p := range r.Promises() {
		if verdicts := r.Unexplained(p); len(verdicts) > 0 && p.Outcome != contract.Kept && p.Outcome != contract.NotRun {
			first := verdicts[0]
			fmt.Fprintf(&b, "\n**%s**: %s, in %s, first in %s: %s\n", p.Promise, p.Outcome, contract.Count(len(verdicts), "check"), code(first.Test), escape(first.Why))
		}
	}
	if len(r.Errors) > 0 {
		b.WriteString("\n### Faults\n\n")
		for _, f := range r.Errors {
			fmt.Fprint(&b, fence("text", f.String()))
		}
	}
	if why := r.NotRunFor(); len(why) > 0 {
		b.WriteString("\n<details><summary>Not run</summary>\n\n")
		for _, line := range why {
			fmt.Fprintf(&b, "- %s\n", escape(line))
		}
		b.WriteString("\n</details>\n")
	}
	return []byte(b.String()), nil
}

// Headline says in one line what the run found out.
func (r *Run) Headline() string {
	var parts []string
	n := make(map[contract.Outcome]int)
	for _, p := range r.Promises() {
		if p.First != nil {
			n[p.Outcome]++
		}
	}
	for _, o := range []contract.Outcome{contract.Broken, contract.Undecided, contract.Kept, contract.NotRun} {
		if n[o] > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", contract.Count(n[o], "promise"), o))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "nothing was tried")
	}
	if len(r.Errors) > 0 {
		parts = append(parts, contract.Count(len(r.Errors), "fault"))
	}
	return strings.Join(parts, ", ")
}

// escape keeps prose from being taken for markup.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "<", "&lt;", ">", "&gt;", "|", `\|`, "[", `\[`, "]", `\]`).Replace(text)
}

// code is text on a line that is shown as it is.
func code(text string) string {
	if text == "" {
		return "(not known)"
	}
	return "`" + strings.ReplaceAll(text, "`", "'") + "`"
}

// fence is a block of text that is shown as it is.
func fence(language, text string) string {
	mark := "```"
	for strings.Contains(text, mark) {
		mark += "`"
	}
	return fmt.Sprintf("%s%s\n%s\n%s\n", mark, language, strings.TrimRight(text, "\n"), mark)
}
