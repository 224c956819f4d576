package report

import (
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// Overall is what the run says of the kernel as a whole, for whoever takes one word:
// Broken if a promise is, Kept if some were tried, all of those were kept, and
// nothing else went wrong, and else Undecided. It is NotRun if no check decided
// anything.
func (r *Run) Overall() contract.Outcome {
	seen := make(map[contract.Outcome]bool)
	for _, p := range r.Promises() {
		seen[p.Outcome] = true
	}
	switch {
	case seen[contract.Broken]:
		return contract.Broken
	case seen[contract.Undecided]:
		return contract.Undecided
	case !seen[contract.Kept]:
		return contract.NotRun
	case len(r.Errors) > 0 || r.Tests.Failed > 0:
		return contract.Undecided
	}
	return contract.Kept
}

// summary is one line: what became of each promise that was tried.
func (r *Run) summary() string {
	line := ""
	for _, p := range r.Promises() {
		if p.Shout() == "not tried" {
			continue
		}
		if line != "" {
			line += ", "
		}
		line += string(p.Promise) + " " + p.Shout()
	}
	if line == "" {
		line = "no check has run"
	}
	if len(r.Errors) > 0 {
		line += "; " + firstLine(r.Errors[0].String())
	}
	return line
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
