package meter

import (
	"strings"
	"testing"
)

func TestProgressIsPlainLinesOffATerminal(t *testing.T) {
	var progress strings.Builder
	m := New(&progress, "building base", 10)
	m.Step("CC a.o")
	m.show()
	m.total = 0
	m.show()
	m.End(true)
	const want = "building base: 1 of about 10 steps (10%), 0s: CC a.o\n" +
		"building base: 1 steps, 0s: CC a.o\n" +
		"building base: done, 1 steps in 0s\n"
	if progress.String() != want {
		t.Errorf("got %q, want %q", progress.String(), want)
	}
}
