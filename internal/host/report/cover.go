package report

import (
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// mailWidth is how long a line of a mail is at most
// (Documentation/process/submitting-patches.rst: wrapped at 75 columns), less what
// a reply or two put before it.
const mailWidth = 72

// cover is a block for a cover letter, or for a reply: plain ASCII.
func (r *Run) cover() ([]byte, error) {
	var b strings.Builder
	by := ""
	if r.Accel != "" {
		by = fmt.Sprintf(" by QEMU (%s)", r.Accel)
	}
	b.WriteString(Fill("", "", fmt.Sprintf("Tested with ringproof on %s, run%s for %.0f seconds, contract %s:", r.Booted(), by, r.Seconds, r.Contract), mailWidth))
	b.WriteString("\n")
	for _, p := range r.Promises() {
		said := p.Shout()
		for _, n := range []struct {
			n    int
			what contract.Outcome
		}{{p.Kept, contract.Kept}, {p.Broken, contract.Broken}, {p.Undecided, contract.Undecided}, {p.NotRun, contract.NotRun}} {
			if n.n > 0 {
				said += fmt.Sprintf(", %d %s", n.n, n.what)
			}
		}
		name, rest, _ := strings.Cut(said, ", ")
		if rest != "" {
			rest = "(checks: " + rest + ")"
		}
		fmt.Fprintf(&b, "  %s\n", strings.TrimRight(fmt.Sprintf("%-15s %-10s %s", p.Promise, name, rest), " "))
	}
	if r.Cost != "" {
		b.WriteString("\n" + strings.TrimSpace(r.Cost) + "\n")
	}
	causes := r.Causes()
	for i, c := range causes {
		f := c.First()
		fmt.Fprintf(&b, "\n%d. %s is broken, %s, in %d of %s\n\n", i+1, c.Promise, c.Seen(), f.Failed, contract.Count(f.Tries, "run"))
		b.WriteString(Fill("", "   ", c.Because(), mailWidth))
		if f.Books != nil {
			b.WriteString(Fill("Packets: ", "   ", f.Books.String(), mailWidth))
		}
		b.WriteString("\n" + shell("   ", f.Replay, mailWidth))
	}
	for _, p := range r.Promises() {
		if verdicts := r.Unexplained(p); len(verdicts) > 0 && (p.Outcome == contract.Broken || p.Outcome == contract.Undecided) {
			b.WriteString("\n" + Fill("", "", fmt.Sprintf("%s is %s in %s, first in %s: %s", p.Promise, p.Outcome, contract.Count(len(verdicts), "check"), verdicts[0].Test, verdicts[0].Why), mailWidth))
		}
	}
	for _, f := range r.Errors {
		title, _, _ := strings.Cut(f.String(), "\n")
		b.WriteString("\n" + Fill("", "", "A "+title, mailWidth))
	}
	for _, why := range r.NotRunFor() {
		b.WriteString("\n" + Fill("", "", "Not run: "+why, mailWidth))
	}
	b.WriteString("\nTo reproduce:\n\n" + shell("  ", r.Command, mailWidth))
	return []byte(strings.Map(ascii, b.String())), nil
}

// ascii is what stands for a character in plain ASCII.
func ascii(c rune) rune {
	if c == '\n' || ' ' <= c && c <= '~' {
		return c
	}
	return '?'
}

// shell breaks a command for a POSIX shell into lines that are the same command.
func shell(indent, command string, width int) string {
	var b strings.Builder
	room := width - len(` \`)
	line := indent
	for _, word := range words(command) {
		switch {
		case strings.TrimSpace(line) == "":
		case len(line)+1+len(word) <= room:
			line += " "
		default:
			b.WriteString(line + " \\\n")
			line = indent + "  "
		}
		quoted := false
		for i, c := range []byte(word) {
			// Not between a backslash and what it quotes. A quote is closed first,
			// for a backslash is nothing special in it.
			if len(line) >= room && word[i-1] != '\\' && c != '\'' {
				if quoted {
					line += "'"
				}
				b.WriteString(line + "\\\n")
				line = ""
				if quoted {
					line = "'"
				}
			}
			line += string(c)
			if c == '\'' && (i == 0 || word[i-1] != '\\' || quoted) {
				quoted = !quoted
			}
		}
	}
	return b.String() + line + "\n"
}

// words splits a command where a shell does: vm.Quote quotes with ' alone.
func words(command string) []string {
	quoted, escaped := false, false
	return strings.FieldsFunc(command, func(c rune) bool {
		switch {
		case escaped:
			escaped = false
			return false
		case c == '\\' && !quoted:
			escaped = true
			return false
		case c == '\'':
			quoted = !quoted
			return false
		}
		return c == ' ' && !quoted
	})
}
