package selftest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/host/proof"
)

// TestProof: a planted bug of each promise is caught by the check that its
// patch names, and what was proven is not proven again.
func TestProof(t *testing.T) {
	t.Chdir("..") // as the command does; the artifacts are made there
	only := []string{"alters", "stops-noqueue", "never-wakes", "trims-twice"}
	dir := t.TempDir()
	for _, again := range []bool{false, true} {
		var said strings.Builder
		p, err := proof.Run(t.Context(), proof.Config{Patches: "patches", Dir: dir, Only: only, Progress: &said})
		if err != nil {
			t.Fatal(err)
		}
		if wrong := p.Wrong(); len(wrong) > 0 {
			t.Fatalf("%s\n%s", strings.Join(wrong, "\n"), p.Text())
		}
		if !again {
			t.Log(p.Text())
			for _, o := range p.Outcomes {
				for _, artifacts := range o.Artifacts {
					t.Cleanup(func() { os.RemoveAll(artifacts) })
				}
			}
		}
		if done := strings.Count(said.String(), "done before"); again != (done == len(only)) {
			t.Errorf("%d of %d jobs were done before, and this is the second time: %v\n%s", done, len(only), again, said.String())
		}
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*.json")); err != nil || len(files) != len(only) {
		t.Errorf("outcomes %v, %v; want one of each of %v", files, err, only)
	}
}
