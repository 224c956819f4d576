package selftest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
)

// TestValidateMerge: make validate-merge, as the workflow uses it, passes only if all
// shards of all cells are there and broke nothing.
func TestValidateMerge(t *testing.T) {
	makefile, err := filepath.Abs("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	ringproof := filepath.Join(t.TempDir(), "ringproof")
	build := exec.Command("go", "build", "-o", ringproof, "./cmd/ringproof")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	type shards map[string]contract.Outcome // by their directories
	for _, tt := range []struct {
		name   string
		shards shards
		empty  string // a cell of which all shards are lost
		passes bool
		says   []string // in the summary
	}{
		{"kept", shards{"base-tcg/shard-1-of-2": contract.Kept, "base-tcg/shard-2-of-2": contract.Kept}, "", true, []string{"# base-tcg", "| no-stall | kept | 2 |"}},
		{"broken", shards{"base-tcg/shard-1-of-1": contract.Kept, "pc-tcg/shard-1-of-1": contract.Broken}, "", false, []string{"# base-tcg", "# pc-tcg", "| no-stall | **BROKEN** |"}},
		{"a shard is lost", shards{"base-tcg/shard-1-of-2": contract.Kept}, "", false, []string{"shard 2/2 is missing"}},
		{"a cell is lost", shards{"base-tcg/shard-1-of-1": contract.Kept}, "pc-tcg", false, []string{"# pc-tcg", "No verdict."}},
		{"all is lost", nil, "", false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := t.TempDir()
			dir := filepath.Join(at, "artifacts", "validate")
			for _, other := range []string{"kernel-base", tt.empty} { // what else is there
				if err := os.MkdirAll(filepath.Join(dir, other), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if tt.shards == nil {
				if err := os.Remove(filepath.Join(dir, "kernel-base")); err != nil {
					t.Fatal(err)
				}
			}
			for name, outcome := range tt.shards {
				shard, err := contract.ParseShard(strings.NewReplacer("shard-", "", "-of-", "/").Replace(filepath.Base(name)))
				if err != nil {
					t.Fatal(err)
				}
				check := "TestNoStall/a"
				for !shard.Has(check) {
					check += "a"
				}
				r := report.Run{
					Dir: filepath.Join(dir, name), Shard: shard.String(),
					Verdicts: []contract.Verdict{{Test: check, Promise: contract.NoStall, Outcome: outcome}},
				}
				if err := os.MkdirAll(r.Dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := r.WriteAll(); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.Command("make", "-s", "-C", at, "-f", makefile, "RINGPROOF="+ringproof, "validate-merge").CombinedOutput()
			if (err == nil) != tt.passes {
				t.Errorf("%v:\n%s", err, out)
			}
			summary, _ := os.ReadFile(filepath.Join(dir, "summary.md"))
			for _, says := range tt.says {
				if !strings.Contains(string(summary), says) {
					t.Errorf("the summary does not say %q:\n%s", says, summary)
				}
			}
		})
	}
}
