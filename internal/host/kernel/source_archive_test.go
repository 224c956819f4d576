package kernel

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func pack(t *testing.T, archive, dir, what string) {
	t.Helper()
	if out, err := exec.Command("tar", "--auto-compress", "--create", "--file="+archive, "--directory="+dir, what).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
}

func TestArchiveOfEveryForm(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	tinyKernel.write(t, filepath.Join(dir, "linux-6"))
	edited := edit("drivers/net/tun.c", 10, "stop the txq")
	series := makeSeries(t, files{"drivers/net/tun.c": edited})
	for name, what := range map[string]string{
		"linux-6.tar.xz":        "linux-6",
		"linux-6.tar.gz":        "linux-6",
		"linux-6.tgz":           "linux-6",
		"linux-6.tar.zst":       "linux-6",
		"linux-6.tar":           "linux-6",
		"no-directory-6.tar.gz": "linux-6/.",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath("zstd"); err != nil && strings.HasSuffix(name, ".zst") {
				t.Skip(err)
			}
			path := filepath.Join(dir, name)
			if below, ok := strings.CutSuffix(what, "/."); ok {
				pack(t, path, filepath.Join(dir, below), ".")
			} else {
				pack(t, path, dir, what)
			}
			tree := mustPrepare(t, path, series)
			if contentOf(t, filepath.Join(tree, "drivers/net/tun.c")) != edited {
				t.Error("the series is not there")
			}
			if again := mustPrepare(t, path); again != tree || contentOf(t, filepath.Join(tree, "drivers/net/tun.c")) != tinyKernel["drivers/net/tun.c"] {
				t.Errorf("without a series it is in %s, before in %s, or not as it was", again, tree)
			}
		})
	}
}

func TestArchiveThatIsNoKernelIsExplained(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	files{
		"other/README":  "x\n",
		"linux.zip":     "PK",
		"broken.tar.xz": "no such thing",
	}.write(t, dir)
	pack(t, filepath.Join(dir, "other.tar.gz"), dir, "other")
	for name, want := range map[string]string{
		"other.tar.gz":  "not the top of a kernel tree",
		"linux.zip":     "neither a directory nor an archive",
		"broken.tar.xz": "xz",
		"none.tar.xz":   "no such directory or file",
	} {
		path := filepath.Join(dir, name)
		_, err := prepared(t, path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
		_, again := prepared(t, path)
		if again == nil || again.Error() != err.Error() {
			t.Errorf("%s the second time: %v", name, again)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("RINGPROOF_CACHE"), "tmp/*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
