package kernel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// files is a tree on disk: path to content.
type files map[string]string

var tinyKernel = files{
	"Makefile":          "VERSION = 6\n",
	"Kbuild":            "obj-y += drivers/\n",
	"arch/x86/Kconfig":  "config X86\n\tdef_bool y\n",
	"drivers/net/tun.c": lines("tun", 40),
	"drivers/net/tap.c": lines("tap", 40),
	"include/ring.h":    lines("ring", 40),
	".gitignore":        "*.o\n/*.log\n",
}

// lines makes a text whose lines differ.
func lines(word string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s line %d\n", word, i+1)
	}
	return b.String()
}

func (f files) write(t *testing.T, dir string) {
	t.Helper()
	for path, content := range f {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// userGit is git as a developer runs it.
func userGit(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command("git", append([]string{"-c", "user.name=A U Thor", "-c", "user.email=author@localhost"}, args...)...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func userGitFails(t *testing.T, dir string, args ...string) {
	t.Helper()
	c := exec.Command("git", append([]string{"-c", "user.name=A U Thor", "-c", "user.email=author@localhost"}, args...)...)
	c.Dir = dir
	if err := c.Run(); err == nil {
		t.Fatalf("git %s succeeded", strings.Join(args, " "))
	}
}

// isolate gives the test a cache and a home of its own: no git identity.
func isolate(t *testing.T) {
	t.Helper()
	t.Setenv(cache.Env, t.TempDir())
	t.Setenv("HOME", t.TempDir())
}

// sources are the two kinds of a user's tree, both with tinyKernel in them.
var sources = map[string]func(t *testing.T) string{
	"unpacked": func(t *testing.T) string {
		dir := t.TempDir()
		tinyKernel.write(t, dir)
		return dir
	},
	"git": func(t *testing.T) string {
		dir := t.TempDir()
		tinyKernel.write(t, dir)
		userGit(t, dir, "init", "--quiet")
		userGit(t, dir, "add", "--all")
		userGit(t, dir, "commit", "--quiet", "--message=base")
		return dir
	},
}

// prepared does what Build does before it calls make, and returns the tree
// that make would be given.
func prepared(t *testing.T, source string, seriesPaths ...string) (string, error) {
	t.Helper()
	dir, said, err := preparedVersion(t, source, 0, seriesPaths...)
	t.Log(said)
	return dir, err
}

// preparedVersion is prepared for a version of the series. said is what a user
// is told.
func preparedVersion(t *testing.T, source string, version int, seriesPaths ...string) (dir, said string, err error) {
	t.Helper()
	var progress strings.Builder
	dir, err = prepareTo(t, &progress, source, version, seriesPaths...)
	return dir, progress.String(), err
}

func prepareTo(t *testing.T, progress io.Writer, source string, version int, seriesPaths ...string) (string, error) {
	t.Helper()
	ctx := t.Context()
	series, err := readSeries(ctx, seriesPaths, version, progress)
	if err != nil {
		return "", err
	}
	src, err := openSource(ctx, source, true, progress)
	if err != nil {
		return "", err
	}
	if _, err := src.identity(ctx); err != nil {
		return "", err
	}
	lock, err := cache.Acquire(ctx, src.name(), progress)
	if err != nil {
		return "", err
	}
	defer lock.Release()
	tr, err := openTree(ctx, src, lock, progress)
	if err != nil {
		return "", err
	}
	patched, err := tr.apply(ctx, src, series)
	if err != nil {
		return "", err
	}
	return tr.src, tr.checkout(ctx, src, patched)
}

func mustPrepare(t *testing.T, source string, seriesPaths ...string) string {
	t.Helper()
	dir, err := prepared(t, source, seriesPaths...)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// edit replaces line n of a file of tinyKernel.
func edit(path string, n int, text string) string {
	all := strings.SplitAfter(tinyKernel[path], "\n")
	all[n-1] = text + "\n"
	return strings.Join(all, "")
}

// makeSeries commits each of steps on top of tinyKernel and returns a
// directory with the patches, as git format-patch with a cover letter makes
// them, all.mbox and all.diff.
func makeSeries(t *testing.T, steps ...files) string {
	t.Helper()
	dir := sources["git"](t)
	for i, step := range steps {
		step.write(t, dir)
		userGit(t, dir, "add", "--all")
		userGit(t, dir, "commit", "--quiet", fmt.Sprintf("--message=net: step %d", i+1))
	}
	out := t.TempDir()
	from := fmt.Sprintf("-%d", len(steps))
	userGit(t, dir, "format-patch", "--quiet", "--output-directory="+out, from)
	write := func(name, text string) { files{name: text}.write(t, out) }
	write("all.mbox", userGit(t, dir, "format-patch", "--cover-letter", "--stdout", from))
	write("all.diff", userGit(t, dir, "diff", fmt.Sprintf("HEAD~%d", len(steps))))
	return out
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// diffOf cuts the mail around a diff away.
func diffOf(t *testing.T, patch string) string {
	t.Helper()
	text := contentOf(t, patch)
	path := filepath.Join(t.TempDir(), "bare.diff")
	files{filepath.Base(path): text[strings.Index(text, "diff --git"):]}.write(t, filepath.Dir(path))
	return path
}
