package run

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// known are patterns for reports of the kernel that are known.
type known []*regexp.Regexp

// readKnown reads a file of regular expressions, one a line; lines that are empty
// or begin with # are comments.
func readKnown(path string) (known, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("KNOWN: %w", err)
	}
	var all known
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		pattern, err := regexp.Compile(line)
		if err != nil {
			return nil, fmt.Errorf("KNOWN: %s:%d: %w", path, i+1, err)
		}
		if pattern.MatchString("") {
			return nil, fmt.Errorf("KNOWN: %s:%d: %q matches every report", path, i+1, line)
		}
		all = append(all, pattern)
	}
	return all, nil
}

// names says whether a pattern matches a line of the report.
func (k known) names(r vm.KernelReport) bool {
	lines := append(strings.Split(r.Text, "\n"), r.Title)
	return slices.ContainsFunc(k, func(pattern *regexp.Regexp) bool {
		return slices.ContainsFunc(lines, pattern.MatchString)
	})
}

// Noise records a report of the kernel that decides nothing, and returns why it
// does not: "" if it does, as a panic and an oops always do.
func (r *Run) Noise(k vm.KernelReport) (why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.noise(k)
}

func (r *Run) noise(k vm.KernelReport) (why string) {
	switch {
	case k.Kind == vm.Panic, k.Kind == vm.Oops:
		return ""
	case r.known.names(k):
		why = "KNOWN names it"
	default:
		why = k.Unrelated()
	}
	told := slices.ContainsFunc(r.result.Noise, func(f report.Fault) bool { return f.Title == k.Title })
	if why != "" && !told {
		r.result.Noise = append(r.result.Noise, report.Fault{
			Kind: report.Kernel, Test: k.Test, Title: k.Title, What: fmt.Sprintf("%s: %s (%s)\n%s", k.Kind, k.Title, why, k.Text),
		})
	}
	return why
}
