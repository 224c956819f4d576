package selftest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// make clean removes runs and outcomes, wherever make is run, and nothing else
// that is called artifacts.
func TestCleanRemovesOnlyRuns(t *testing.T) {
	makefile, err := filepath.Abs("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, file := range []string{
		"run/events.jsonl", "run/vm-1/console.log", "with spaces/events.jsonl", "last", "proof/alters.json",
		"bench/bench.json", "bench/bench.txt", "bench/stock.bench", "bench/boots/time-stock-1/outcome.json", "bench/lossless/verdict.json", "bench/planted/nothing/bench.json",
		"mine/thesis.tex", "letter.txt", "theirs/bench.txt",
	} {
		path := filepath.Join(dir, "artifacts", file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	clean := func(want ...string) {
		t.Helper()
		if out, err := exec.Command("make", "-C", dir, "-f", makefile, "clean").CombinedOutput(); err != nil {
			t.Fatalf("make clean: %v\n%s", err, out)
		}
		left, err := filepath.Glob(filepath.Join(dir, "artifacts/*"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range left {
			left[i] = filepath.Base(left[i])
		}
		if !slices.Equal(left, want) {
			t.Errorf("left are %q, want %q", left, want)
		}
	}
	clean("letter.txt", "mine", "theirs")
	if err := os.MkdirAll(filepath.Join(dir, "artifacts/bench/boots"), 0o755); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(dir, "artifacts/bench/boots/leather.txt") // no bench.json is beside it
	if err := os.WriteFile(theirs, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	clean("bench", "letter.txt", "mine", "theirs")
	if err := os.RemoveAll(filepath.Join(dir, "artifacts")); err != nil {
		t.Fatal(err)
	}
	clean() // nothing to remove
}
