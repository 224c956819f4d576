package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
)

// saved is the directory of a run with these outcomes of no-stall.
func saved(t *testing.T, shard string, outcomes map[string]contract.Outcome) string {
	t.Helper()
	r := &report.Run{Dir: t.TempDir(), Contract: contract.Lossless, Shard: shard}
	for test, outcome := range outcomes {
		r.Verdicts = append(r.Verdicts, contract.Verdict{Test: test, Promise: contract.NoStall, Outcome: outcome})
	}
	if err := r.WriteAll(); err != nil {
		t.Fatal(err)
	}
	return r.Dir
}

// TestMergedStatus: shards end as the whole run would, and without one of them
// nothing is decided.
func TestMergedStatus(t *testing.T) {
	kept := saved(t, "1/2", map[string]contract.Outcome{"TestA": contract.Kept})
	broken := saved(t, "2/2", map[string]contract.Outcome{"TestB": contract.Broken})
	open := saved(t, "2/2", map[string]contract.Outcome{"TestB": contract.Undecided})
	out := filepath.Join(t.TempDir(), "merged")
	for _, tt := range []struct {
		name string
		args []string
		want exitStatus
	}{
		{"one broken", []string{"-o", out, kept, broken}, 1},
		{"one undecided", []string{kept, open}, cannotTell},
		{"one missing", []string{kept}, setUp},
		{"one twice", []string{kept, kept}, setUp},
		{"no such run", []string{kept, "/absent"}, setUp},
		{"none", nil, setUp},
	} {
		if got := status(t.Context(), append([]string{"merge"}, tt.args...)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	for _, form := range []string{"verdict.json", "verdict.html", "verdict.ktap", "verdict.xml", "verdict.md"} {
		if _, err := os.Stat(filepath.Join(out, form)); err != nil {
			t.Error(err)
		}
	}
	for _, args := range [][]string{{"compare", kept, broken, open}, {"compare", kept}, {"report", out}, {"report", "-w", out}, {"report", "-format", "ktap", out}} {
		if got := status(t.Context(), args); got != 0 {
			t.Errorf("ringproof %q: %v", args, got)
		}
	}
	for _, args := range [][]string{{"compare"}, {"compare", "/absent"}, {"report"}, {"report", kept, broken}, {"report", "-format", "yaml", kept}, {"report", "-vmlinux", "/absent", kept}, {"revisions"}, {"revisions", "-contract", "losless", "x"}} {
		if got := status(t.Context(), args); got != setUp {
			t.Errorf("ringproof %q: %v, want %v", args, got, setUp)
		}
	}
}

func TestLabelOfARevision(t *testing.T) {
	columns := []column{{label: "stock"}}
	var labels []string
	for _, series := range []string{"mail/v9.mbox", "v12.mbox", "old/v9.mbox", "stock", "patches/designs/opt-in-2/"} {
		label := labelOf(series, columns)
		columns, labels = append(columns, column{label: label}), append(labels, label)
	}
	if want := "v9 v12 v9-2 stock-2 opt-in-2"; strings.Join(labels, " ") != want {
		t.Errorf("%v, want %s", labels, want)
	}
}
