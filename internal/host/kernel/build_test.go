package kernel

import (
	"context"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// These tests build real kernels in the cache that all runs share: the stock
// kernel costs minutes once, and nothing from then on.

func mustBuild(t *testing.T, spec Spec) *Result {
	t.Helper()
	if testing.Short() {
		t.Skip("building a kernel takes minutes where the cache is empty")
	}
	r, err := Build(t.Context(), spec, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const lossless = "../../../patches/designs/lossless"

// hasSymbol says whether a vmlinux defines name.
func hasSymbol(t *testing.T, vmlinux, name string) bool {
	t.Helper()
	f, err := elf.Open(vmlinux)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == name {
			return true
		}
	}
	return false
}

func TestStockAndLosslessKernels(t *testing.T) {
	const added = "tun_ring_consume_batched" // by the series
	stock := mustBuild(t, Spec{})
	patched := mustBuild(t, Spec{Series: []string{lossless}})
	for _, r := range []*Result{stock, patched} {
		if _, err := Inspect(r.Image); err != nil {
			t.Error(err)
		}
		if len(r.Lacks) != 0 {
			t.Errorf("the default source lacks %q: is a fragment misspelt?", r.Lacks)
		}
		if r.Modules != "" {
			t.Errorf("base makes modules: %s", r.Modules)
		}
		if !hasSymbol(t, r.Vmlinux, "tun_net_xmit") {
			t.Errorf("%s has no tun", r.Vmlinux)
		}
	}
	if stock.Key == patched.Key || len(patched.Series) != 3 {
		t.Errorf("keys %s and %s, series %q", stock.Key, patched.Key, patched.Series)
	}
	if hasSymbol(t, stock.Vmlinux, added) || !hasSymbol(t, patched.Vmlinux, added) {
		t.Errorf("%s should be in the patched kernel alone", added)
	}
	start := time.Now()
	if again := mustBuild(t, Spec{}); !again.Cached || again.Dir != stock.Dir {
		t.Errorf("the second Build made %s anew", again.Dir)
	}
	t.Logf("from the cache in %v", time.Since(start))
}

// planted writes a patch that adds a line at the end of tun.c.
func planted(t *testing.T, line string) string {
	t.Helper()
	const diff = `--- a/drivers/net/tun.c
+++ b/drivers/net/tun.c
@@ -3837,3 +3837,4 @@
 MODULE_LICENSE("GPL");
 MODULE_ALIAS_MISCDEV(TUN_MINOR);
 MODULE_ALIAS("devname:net/tun");
+`
	dir := t.TempDir()
	files{"planted.diff": diff + line + "\n"}.write(t, dir)
	return filepath.Join(dir, "planted.diff")
}

func TestCompilerErrorIsShownAndLeavesNothingBroken(t *testing.T) {
	mustBuild(t, Spec{})
	_, err := Build(t.Context(), Spec{Series: []string{planted(t, "int ringproof_planted = nonsense;")}}, os.Stderr)
	t.Log(err)
	var me *MakeError
	if !errors.As(err, &me) {
		t.Fatalf("%v is not a *MakeError", err)
	}
	if !strings.Contains(err.Error(), "nonsense") || strings.Count(err.Error(), "\n") > 40 {
		t.Error("the message is not the compiler's error alone")
	}
	if log := contentOf(t, me.Log); !strings.Contains(log, "nonsense") {
		t.Errorf("%s is not the log", me.Log)
	}
}

func TestCancelledBuildResumes(t *testing.T) {
	mustBuild(t, Spec{})
	// A key of its own each time, or the cache would answer.
	spec := Spec{Series: []string{planted(t, "int ringproof_planted; /* "+time.Now().String()+" */")}}
	ctx, cancel := context.WithCancel(t.Context())
	w := writerFunc(func(p []byte) {
		if strings.Contains(string(p), "building") { // ten seconds into make
			cancel()
		}
	})
	if _, err := Build(ctx, spec, w); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Build says %v", err)
	}
	r := mustBuild(t, spec)
	if r.Cached {
		t.Error("a cancelled build was published")
	}
	if !hasSymbol(t, r.Vmlinux, "ringproof_planted") {
		t.Error("what was resumed lacks the patch")
	}
	os.RemoveAll(r.Dir) // nobody will ask for this key again
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// defaultTree is the tree of the default source, which is the test's until it
// ends.
func defaultTree(t *testing.T) (*tree, source) {
	t.Helper()
	mustBuild(t, Spec{}) // so that the source is there
	src, err := openSource(t.Context(), "", true, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := cache.Acquire(t.Context(), "the tree of "+src.name(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Release() })
	tr, err := openTree(t.Context(), src, lock, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return tr, src
}

func TestFragmentsSuitTheDefaultSource(t *testing.T) {
	testdata, err := filepath.Glob("testdata/*.config")
	if err != nil || len(testdata) == 0 {
		t.Fatal(testdata, err)
	}
	ctx := t.Context()
	tr, src := defaultTree(t)
	if err := tr.checkout(ctx, src, tr.base); err != nil {
		t.Fatal(err)
	}
	tr.dir = t.TempDir() // configured, not built: beside the real ones
	for _, name := range append(Fragments(), testdata...) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			if name == "arm64" {
				t.Setenv("ARCH", name)
				if missing := MissingPackages(Spec{}); missing != nil {
					t.Skip("not run: ", &MissingError{missing})
				}
			}
			frags, err := readFragments([]string{name})
			if err != nil {
				t.Fatal(err)
			}
			o, err := tr.configure(ctx, frags, os.Stderr)
			if err != nil {
				t.Fatal(err)
			}
			before, err := os.Stat(o.config())
			if err != nil {
				t.Fatal(err)
			}
			if o, err = tr.configure(ctx, frags, os.Stderr); err != nil {
				t.Fatal(err)
			}
			if after, err := os.Stat(o.config()); err != nil || !after.ModTime().Equal(before.ModTime()) {
				t.Errorf("the .config was written again, and make would ask Kconfig again: %v", err)
			}
			if len(o.lacks) != 0 {
				t.Errorf("not as asked: %q", o.lacks)
			}
			if modular := name == "modular"; o.modular() != modular {
				t.Errorf("makes modules: %v", o.modular())
			}
		})
	}
}

// TestConfigKey: what Kconfig does not read makes no other configuration.
func TestConfigKey(t *testing.T) {
	ctx := t.Context()
	tr, src := defaultTree(t)
	frags, err := readFragments(nil)
	if err != nil {
		t.Fatal(err)
	}
	keyWith := func(path string) string {
		dir := t.TempDir()
		files{"new.patch": "diff --git a/" + path + " b/" + path + "\nnew file mode 100644\n--- /dev/null\n+++ b/" + path + "\n@@ -0,0 +1 @@\n+# new\n"}.write(t, dir)
		s, err := readSeries(ctx, []string{filepath.Join(dir, "new.patch")}, 0, os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		if tr.at, err = tr.apply(ctx, src, s); err != nil {
			t.Fatal(err)
		}
		key, err := tr.configKey(ctx, frags)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	tr.at = tr.base
	plain, err := tr.configKey(ctx, frags)
	if err != nil {
		t.Fatal(err)
	}
	for path, same := range map[string]bool{
		"drivers/net/new.c":     true,
		"drivers/net/Kconfig.n": false,
		"drivers/net/new/Kconf": false,
		"scripts/new.c":         false,
	} {
		if key := keyWith(path); (key == plain) != same {
			t.Errorf("%s: the configuration is the same: %v, want %v", path, key == plain, same)
		}
	}
}
