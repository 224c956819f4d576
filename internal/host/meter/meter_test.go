package meter

import (
	"strings"
	"testing"
	"time"
)

func TestProgressIsPlainLinesOffATerminal(t *testing.T) {
	var progress strings.Builder
	m := New(&progress, "building base", "steps", 10)
	m.total = 0
	m.show()
	m.Doing("make looks at what has changed")
	m.show()
	m.Doing("CC a.o")
	m.Add(1)
	m.show()
	m.total = 10
	m.show()
	m.start, m.since = m.start.Add(-20*time.Second), m.since.Add(-10*time.Second)
	m.show()
	m.Set(3)
	m.End(true)
	m = New(&progress, "configuring base", "targets", 0)
	m.End(false)
	const want = "building base, 0s\n" +
		"building base, 0s: make looks at what has changed\n" +
		"building base: 1 steps, 0s: CC a.o\n" +
		"building base: 1 of about 10 steps (10%), 0s: CC a.o\n" +
		"building base: 1 of about 10 steps (10%), 20s: CC a.o (for 10s)\n" +
		"building base: done, 3 steps in 20s\n" +
		"configuring base: not finished in 0s\n"
	if progress.String() != want {
		t.Errorf("got %q, want %q", progress.String(), want)
	}
}
