package selftest

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestFlags: those of go test do what they do for any test.
func TestFlags(t *testing.T) {
	k := lossless(t)
	t.Run("run selects a subtest", func(t *testing.T) {
		h, code := run(t, on(k), "-v", "-short", "-run=TestNoqueueDrops/sender/udp")
		if code != 0 {
			t.Errorf("exit status %d", code)
		}
		h.says("--- PASS: TestNoqueueDrops/sender/udp")
		if n := strings.Count(h.out.String(), "=== RUN"); n != 2 {
			t.Errorf("%d tests ran, want TestNoqueueDrops and one subtest:\n%s", n, h.out)
		}
	})
	t.Run("skip leaves out", func(t *testing.T) {
		h, code := run(t, on(k), "-v", "-short", "-run=TestKernel|TestNoqueueDrops", "-skip=TestNoqueueDrops")
		if code != 0 || strings.Contains(h.out.String(), "TestNoqueueDrops") {
			t.Errorf("exit status %d:\n%s", code, h.out)
		}
	})
	t.Run("count repeats", func(t *testing.T) {
		h, code := run(t, on(k), "-v", "-run=TestKernel", "-count=3")
		if code != 0 || strings.Count(h.out.String(), "--- PASS: TestKernel ") != 3 {
			t.Errorf("exit status %d:\n%s", code, h.out)
		}
	})
	t.Run("json has the verdicts", func(t *testing.T) {
		h, code := run(t, on(k), "-json", "-short", "-run=TestNoqueueDrops/sender/udp")
		if code != 0 {
			t.Errorf("exit status %d", code)
		}
		var verdict string
		for line := range strings.Lines(h.out.String()) {
			var e struct{ Action, Test, Key, Value string }
			if json.Unmarshal([]byte(line), &e) == nil && e.Action == "attr" && e.Key == "noqueue-drops" {
				verdict = e.Value
			}
		}
		if verdict != "kept" {
			t.Errorf("noqueue-drops: %q\n%s", verdict, h.out)
		}
	})
	t.Run("failfast stops", func(t *testing.T) {
		h, code := run(t, on(k, "CONTRACT=stock"), "-v", "-short", "-failfast", "-run=TestNoTailDrop")
		if n := strings.Count(h.out.String(), "=== RUN   TestNoTailDrop/"); code == 0 || n != 1 {
			t.Errorf("exit status %d, %d checks ran, want the first, which fails:\n%s", code, n, h.out)
		}
	})
	t.Run("list lists and boots nothing", func(t *testing.T) {
		h, code := run(t, []string{"KERNEL=/absent"}, "-list=.")
		if code != 0 {
			t.Errorf("exit status %d", code)
		}
		h.says("TestNoTailDrop", "TestNoqueueDrops", "TestNoStall")
	})
	t.Run("a pass is never cached", func(t *testing.T) {
		for range 2 {
			h, code := run(t, on(k, "ARTIFACTS="), "-run=TestKernel")
			if code != 0 || strings.Contains(h.out.String(), "(cached)") {
				t.Errorf("exit status %d:\n%s", code, h.out)
			}
		}
	})
}
