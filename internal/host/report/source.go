package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/host/srcline"
)

// Source is a part of a function in which a CPU was held up.
type Source struct {
	// Symbol is the function that was held up, Function what of the source that
	// is: the same, or one that was inlined there.
	Symbol   string
	Function string
	File     string // from the top of the kernel's tree on
	// Held are the lines of the instructions, in order.
	Held []int
	// Lines are those and some around them; nil if it is not known what the
	// source was.
	Lines []Line `json:",omitempty"`
}

// Line is one line of a source file.
type Line struct {
	Number int
	Text   string
}

// String names the place in one line.
func (s Source) String() string {
	first, last := s.Held[0], s.Held[len(s.Held)-1]
	lines := fmt.Sprint(first)
	if last > first {
		lines = fmt.Sprintf("%d-%d", first, last)
	}
	return fmt.Sprintf("%s (%s:%s)", s.Function, s.File, lines)
}

// Text shows the lines, those marked at which a CPU was held up, and "..." where
// some are left out.
func (s Source) Text() string {
	var b strings.Builder
	for i, line := range s.Lines {
		if i > 0 && line.Number > s.Lines[i-1].Number+1 {
			fmt.Fprintf(&b, "  %5s\n", "...")
		}
		mark := " "
		if slices.Contains(s.Held, line.Number) {
			mark = ">"
		}
		fmt.Fprintf(&b, "%s %5d %s\n", mark, line.Number, line.Text)
	}
	return b.String()
}

// overlaps says whether a line of both is the same.
func (s Source) overlaps(o Source) bool {
	return s.File == o.File && slices.ContainsFunc(s.Held, func(line int) bool { return slices.Contains(o.Held, line) })
}

// with is s and the lines of another part of the same function.
func (s Source) with(o Source) Source {
	s.Held = append(slices.Clone(s.Held), o.Held...)
	slices.Sort(s.Held)
	s.Held = slices.Compact(s.Held)
	s.Lines = append(slices.Clone(s.Lines), o.Lines...)
	slices.SortFunc(s.Lines, func(a, b Line) int { return a.Number - b.Number })
	s.Lines = slices.Compact(s.Lines)
	return s
}

// Locate finds where in the source the finding's instructions are.
func (f *Finding) Locate(lines *srcline.Lines) error {
	for i, w := range f.windows() {
		starts := lines.Symbols(w.symbol)
		var at []uint64
		switch {
		case i == 0:
			if starts != nil && !slices.Contains(starts, f.From.Addr-w.from) {
				return fmt.Errorf("VMLINUX is not of the kernel that ran, but of another build: %s is at %#x in it, and was at %#x; give the vmlinux that was built with the bzImage",
					f.From.Name, starts[0]+w.from, f.From.Addr)
			}
			if at = f.At; at == nil {
				at = []uint64{f.From.Addr, f.To.Addr}
			}
		case i == 2:
			at = []uint64{f.Delayed.Load.Addr}
		case f.Second != nil:
			at = []uint64{f.Second.Addr}
		case starts != nil:
			at = []uint64{starts[0] + w.from}
		default:
			continue
		}
		found, err := held(lines, w.symbol, at)
		if err != nil {
			return err
		}
		f.Source = append(f.Source, found...)
	}
	return nil
}

// around is how many lines are shown before and after those that are held up.
const around = 3

// held returns the source of instructions of one symbol, by function. Of what was
// inlined there, a header's function says least, so that is passed over.
func held(lines *srcline.Lines, symbol string, at []uint64) ([]Source, error) {
	var found []Source
	for _, addr := range at {
		chain, err := lines.At(addr)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(chain, func(f srcline.Frame) bool { return !strings.HasSuffix(f.File, ".h") })
		frame := chain[max(i, 0)]
		if frame.Line == 0 {
			continue // the compiler's own
		}
		i = slices.IndexFunc(found, func(s Source) bool { return s.Function == frame.Function && s.File == frame.File })
		if i < 0 {
			i = len(found)
			found = append(found, Source{Symbol: symbol, Function: frame.Function, File: frame.File})
		}
		if s := &found[i]; !slices.Contains(s.Held, frame.Line) {
			s.Held = append(s.Held, frame.Line)
			slices.Sort(s.Held)
		}
	}
	for i := range found {
		s := &found[i]
		near := func(n int) bool {
			return slices.ContainsFunc(s.Held, func(line int) bool { return line-around <= n && n <= line+around })
		}
		text, ok := lines.Read(s.File)
		if !ok {
			continue
		}
		for n, line := range strings.Split(text, "\n") {
			if near(n + 1) {
				s.Lines = append(s.Lines, Line{Number: n + 1, Text: line})
			}
		}
	}
	return found, nil
}
