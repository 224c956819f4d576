package run

import (
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/srcline"
)

// Finding records what breaks a promise, and returns what the guest cannot know:
// the command that replays it, and where in the source it is, as far as VMLINUX
// tells and it is at a place in particular.
func (r *Run) Finding(test string, f contract.Finding) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := report.Finding{Finding: f, Test: test, Replay: r.result.ReplayFinding(&f)}
	said := "replay: " + found.Replay
	switch {
	case f.From.Addr == 0: // a sequence of faults
	case r.cfg.Vmlinux == "":
		said += "\nsource lines: give the kernel's ELF file as VMLINUX="
	default:
		lines, err := r.openLines()
		if err == nil {
			err = found.Locate(lines)
		}
		if err == nil {
			said += inlined(lines, f.From) + inlined(lines, f.To)
		} else {
			said += "\n" + err.Error()
		}
	}
	for _, s := range found.Source {
		if s.Lines != nil {
			said += fmt.Sprintf("\n%v:\n%s", s, strings.TrimSuffix(s.Text(), "\n"))
		}
	}
	r.result.Findings = append(r.result.Findings, found)
	return said
}

// inlined says in what function a place is, and in which others that was inlined.
func inlined(lines *srcline.Lines, place contract.Place) string {
	frames, err := lines.At(place.Addr)
	if err != nil {
		return "\n" + err.Error()
	}
	var chain []string
	for _, f := range frames {
		chain = append(chain, f.String())
	}
	return fmt.Sprintf("\n%s is in %s", place.Name, strings.Join(chain, ", inlined in "))
}

// openLines reads VMLINUX, once for a run: that of a distribution's kernel has
// a gigabyte.
func (r *Run) openLines() (*srcline.Lines, error) {
	for _, g := range r.guests {
		if err := g.notOf(); err != nil {
			return nil, err
		}
	}
	if r.lines == nil && r.noLines == nil {
		if r.lines, r.noLines = srcline.Open(r.cfg.Vmlinux); r.noLines != nil {
			return nil, r.noLines
		}
		built, err := kernel.FindSource(r.cfg.Vmlinux)
		if err != nil {
			return nil, err
		}
		if built != nil {
			r.lines.Read = func(file string) (string, bool) { return built.Read(r.ctx, file) }
		}
	}
	return r.lines, r.noLines
}
