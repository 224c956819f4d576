package run

import (
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/source"
)

// Finding records what breaks a promise, and returns what the guest cannot know:
// the command that replays it, and where in the source it is, as far as VMLINUX
// tells and it is at a place in particular.
func (r *Run) Finding(f contract.Finding) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.Replay = r.report.ReplayFinding(&f)
	r.report.Findings = append(r.report.Findings, f)
	return strings.TrimSuffix(fmt.Sprintf("replay: %s\n%s", f.Replay, r.where(f)), "\n")
}

func (r *Run) where(f contract.Finding) string {
	if f.From.Addr == 0 {
		return ""
	}
	if r.cfg.Vmlinux == "" {
		return "source lines: give the kernel's ELF file as VMLINUX="
	}
	lines, err := r.openLines()
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, place := range []contract.Place{f.From, f.To} {
		frames, err := lines.At(place.Addr)
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&b, "%s is in", place.Name)
		for i, frame := range frames {
			if i > 0 {
				b.WriteString(", inlined in")
			}
			fmt.Fprintf(&b, " %v", frame)
		}
		b.WriteString("\n")
		// Of the chain, a header's inline function says least.
		for _, frame := range frames {
			if !strings.HasSuffix(frame.File, ".h") {
				b.WriteString(lines.Context(frame, 2))
				break
			}
		}
		if f.Points == 1 {
			break
		}
	}
	return b.String()
}

// openLines reads VMLINUX, once for a run: that of a distribution's kernel has
// a gigabyte.
func (r *Run) openLines() (*source.Lines, error) {
	for _, g := range r.guests {
		if err := g.notOf(); err != nil {
			return nil, err
		}
	}
	if r.lines == nil && r.noLines == nil {
		if r.lines, r.noLines = source.Open(r.cfg.Vmlinux); r.noLines != nil {
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
