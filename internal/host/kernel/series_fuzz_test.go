package kernel

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// FuzzSeries: whatever is given as a series, nothing is written outside of the
// cache, and what is applied is what git am or git apply makes of it. A file of
// which something was left out, reordered or applied in another way is compared
// patch by patch: that is told on progress.
func FuzzSeries(f *testing.F) {
	for _, name := range slices.Sorted(maps.Keys(forms)) {
		if text, ok := forms[name].is["m"]; ok {
			f.Add([]byte(text))
		}
	}
	home, cached, source, reference := f.TempDir(), f.TempDir(), f.TempDir(), f.TempDir()
	f.Setenv("HOME", home)
	f.Setenv(cache.Env, cached)
	for path, content := range tinyKernel {
		for _, dir := range []string{source, reference} {
			path := filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				f.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				f.Fatal(err)
			}
		}
	}
	git := func(args ...string) (string, error) {
		c := exec.Command("git", append([]string{"-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "gc.auto=0", "-C", reference}, args...)...)
		out, err := c.Output()
		return strings.TrimSpace(string(out)), err
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "--all", "--force"}, {"commit", "--quiet", "--message=base"}} {
		if _, err := git(args...); err != nil {
			f.Fatal(args, err)
		}
	}
	base, err := git("rev-parse", "HEAD")
	if err != nil {
		f.Fatal(err)
	}
	// byGit returns the tree that git makes of files, mails or diffs.
	byGit := func(mails bool, quotedCR string, files ...string) (tree string, ok bool) {
		defer func() {
			os.RemoveAll(filepath.Join(reference, ".git/rebase-apply"))
			git("reset", "--quiet", "--hard", base)
			git("clean", "-ffdxq")
		}()
		args := append([]string{"apply", "--index"}, files...)
		if mails {
			args = append([]string{"am", "--quiet", "--quoted-cr=" + quotedCR, "--patch-format=mbox"}, files...)
		}
		if _, err := git(args...); err != nil {
			return "", false
		}
		tree, err := git("write-tree")
		return tree, err == nil
	}
	working, err := os.Getwd()
	if err != nil {
		f.Fatal(err)
	}
	elsewhere := func() string {
		var names []string
		for _, dir := range []string{home, source, working, filepath.Dir(home), filepath.Join(cached, "tmp")} {
			entries, err := os.ReadDir(dir)
			if err != nil && !os.IsNotExist(err) {
				f.Fatal(err)
			}
			for _, e := range entries {
				names = append(names, filepath.Join(dir, e.Name()))
			}
		}
		return strings.Join(names, "\n")
	}
	var src openedTree
	src.open(f, source)
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		file := filepath.Join(dir, "series")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		before := elsewhere()
		defer func() {
			if after := elsewhere(); after != before {
				t.Errorf("files appeared or are gone: before\n%s\nafter\n%s", before, after)
			}
		}()
		var said strings.Builder
		src.progress = &said
		series, err := readSeries(t.Context(), []string{file}, 0, &said)
		if err != nil {
			return
		}
		if len(series) == 0 {
			t.Error("it took a series without a patch")
		}
		left := said.String()
		tree, err := src.apply(t.Context(), src.source, series)
		if err != nil || said.String() != left { // -p0, a merge, without documentation
			return
		}
		if !isMail(text) && bytes.Contains(text, []byte("\r")) { // git apply takes no CRLF
			return
		}
		files := []string{file}
		if left != "" {
			files = nil
			for i, p := range series {
				part := filepath.Join(dir, fmt.Sprint(i))
				if err := os.WriteFile(part, p.text, 0o644); err != nil {
					t.Fatal(err)
				}
				files = append(files, part)
			}
		}
		want, ok := byGit(isMail(text), "nowarn", files...)
		if ok && want != tree {
			want, ok = byGit(isMail(text), "strip", files...)
		}
		if ok && want != tree {
			t.Errorf("it made tree %s of %d files, git %s: said %q", tree, len(files), want, left)
		}
	})
}

// openedTree is a source and its tree.
type openedTree struct {
	*tree
	source source
}

func (s *openedTree) open(f *testing.F, dir string) {
	f.Helper()
	ctx := f.Context()
	var err error
	if s.source, err = openSource(ctx, dir, true, os.Stderr); err != nil {
		f.Fatal(err)
	}
	if _, err := s.source.identity(ctx); err != nil {
		f.Fatal(err)
	}
	lock, err := cache.Acquire(ctx, s.source.name(), os.Stderr)
	if err != nil {
		f.Fatal(err)
	}
	if s.tree, err = openTree(ctx, s.source, lock, os.Stderr); err != nil {
		f.Fatal(err)
	}
}
