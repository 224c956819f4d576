package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
)

// TestInsideRuns lets a program run here that says what a guest's test program says, and
// changes nothing: its exit status counts as well.
func TestInsideRuns(t *testing.T) {
	if f, err := os.Open("/dev/kmsg"); err != nil {
		t.Skipf("the kernel's log cannot be read: %v", err)
	} else {
		f.Close()
	}
	t.Setenv(contract.GuestEnv, "1")
	for _, tt := range []struct {
		name    string
		outcome contract.Outcome
		end     string
		want    contract.Outcome // of the whole
		harness bool
	}{
		{"kept", contract.Kept, "exit 0", contract.Kept, false},
		{"broken", contract.Broken, "exit 1", contract.Broken, false},
		{"failed without a word", contract.Kept, "exit 1", contract.Undecided, true},
		{"panicked", contract.Kept, "exit 2", contract.Undecided, true},
		{"killed", contract.Kept, "kill -9 $$", contract.Undecided, true},
	} {
		dir := t.TempDir()
		said := strings.ReplaceAll(fmt.Sprintf("^=== RUN   TestA\n^=== ATTR  TestA %s {\"Contract\":\"lossless\",\"Promises\":[\"no-stall\"]}\n"+
			"^=== ATTR  TestA %s {\"Test\":\"TestA\",\"Promise\":\"no-stall\",\"Outcome\":\"%s\"}\n^--- PASS: TestA (0.00s)\n^=== NAME  \n^PASS\n",
			contract.AttrOwes, contract.AttrVerdict, tt.outcome), "^", "\x16")
		program := filepath.Join(dir, "program")
		if err := os.WriteFile(program+".says", []byte(said), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, []byte("#!/bin/sh\ncat "+program+".says\n"+tt.end+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		r, err := Inside(t.Context(), Config{Dir: filepath.Join(dir, "artifacts")}, program, "./ringproof inside", Flags{Count: 1})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Overall(); got != tt.want || r.Has(report.Harness) != tt.harness {
			t.Errorf("%s: %s, %v; want %s", tt.name, got, r.Errors, tt.want)
		}
		if saved, err := report.Read(r.Dir); err != nil || saved.Overall() != tt.want {
			t.Errorf("%s: what is written down: %v, %v", tt.name, saved, err)
		}
	}
}
