package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// escapes are patches that would write where they have no business.
var escapes = []string{
	newFile("link", "120000", "../../../../home\n\\ No newline at end of file") + newFile("link/.profile", "100644", "x"),
	newFile("drivers/net/link", "120000", "/tmp\n\\ No newline at end of file") + newFile("drivers/net/link/ringproof-escape", "100644", "x"),
	"diff --git a/link b/link\nnew file mode 120000\n", // to nowhere
	newFile("../../../home/.profile", "100644", "x"),
	newFile(".git/hooks/post-checkout", "100755", "x"),
	newFile("drivers/.git/config", "100644", "x"),
	newFile(".GIT/config", "100644", "x"),
	"--- /dev/null\n+++ /tmp/ringproof-escape\n@@ -0,0 +1 @@\n+x\n",
	newFile("drivers/ext", "160000", "Subproject commit 0123456789abcdef0123456789abcdef01234567"),
	newFile(".gitattributes", "100644", "* filter=x text eol=crlf"),
	"diff --git a/drivers/net/tun.c b/Kbuild/tun.c\nsimilarity index 100%\nrename from drivers/net/tun.c\nrename to Kbuild/tun.c\n",
}

func newFile(path, mode, text string) string {
	return "diff --git a/" + path + " b/" + path + "\nnew file mode " + mode + "\n--- /dev/null\n+++ b/" + path + "\n@@ -0,0 +1 @@\n+" + text + "\n"
}

// FuzzSeries: whatever is given as a series, nothing is written outside of the
// cache, and what is applied and checked out is what git makes of it. A file of
// which something was left out, reordered or applied in another way is compared
// patch by patch: that is told on progress.
func FuzzSeries(f *testing.F) {
	for _, name := range slices.Sorted(maps.Keys(forms)) {
		if text, ok := forms[name].is["m"]; ok {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte(strings.Replace(first, "+++ b/"+tun, "+++ x", 1))) // taken with -p1 alone
	for _, text := range escapes {
		f.Add([]byte(text))
		f.Add([]byte(post("[PATCH] escape", text)))
	}
	// Deep enough for a few "../".
	top := f.TempDir()
	deep := filepath.Join(top, "a/b/c/d")
	home, cached, source, temporary := filepath.Join(deep, "home"), filepath.Join(deep, "cache"), filepath.Join(deep, "source"), filepath.Join(deep, "tmp")
	for _, dir := range []string{home, cached, source, temporary} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			f.Fatal(err)
		}
	}
	f.Setenv("HOME", home)
	f.Setenv("TMPDIR", temporary)
	f.Setenv(cache.Env, cached)
	if _, err := cache.Dir("tmp"); err != nil {
		f.Fatal(err)
	}
	for path, content := range tinyKernel {
		path := filepath.Join(source, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			f.Fatal(err)
		}
	}
	reference := newReference(f, source)
	var src openedTree
	src.open(f, source)
	f.Fuzz(func(t *testing.T, text []byte) {
		t.Chdir(home)
		dir := t.TempDir()
		file := filepath.Join(dir, "series")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		elsewhere := func() string {
			return everything(t, top, src.src, src.repo.dir, src.index, filepath.Join(src.tree.dir, "src.unfinished"), dir, filepath.Join(cached, "tmp"))
		}
		before := elsewhere()
		defer func() {
			after := elsewhere()
			for line := range strings.Lines(after) {
				if !strings.Contains(before, line) {
					t.Errorf("this was written: %s", line)
				}
			}
			for line := range strings.Lines(before) {
				if !strings.Contains(after, line) {
					t.Errorf("this is gone: %s", line)
				}
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
		if err != nil {
			return
		}
		// As a link to nowhere, which git puts into an index, but not on a disk.
		refused := src.checkout(t.Context(), src.source, tree)
		if said.String() != left { // -p0, a merge, without documentation
			return
		}
		parts := [][]byte{text}
		if left != "" {
			parts = nil
			for _, p := range series {
				parts = append(parts, p.text)
			}
		}
		made := reference.trees(dir, isMail(text), parts)
		if refused != nil && len(made) != 0 {
			t.Errorf("git makes of it %q, and it says %v", made, refused)
		}
		if refused == nil && !slices.Contains(made, tree) {
			t.Errorf("it made tree %s of %d patches, git %q: said %q", tree, len(series), made, left)
		}
	})
}

// everything describes what is below a directory, but for what is in except.
func everything(t *testing.T, dir string, except ...string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(except, path) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprint(&b, path, fi.Mode())
		if !d.IsDir() { // one of those in except may have come
			fmt.Fprint(&b, fi.Size(), fi.ModTime())
		}
		fmt.Fprintln(&b)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return b.String()
}

// reference is a repository in which git itself, as a user has it, applies what
// FuzzSeries tries.
type reference struct {
	dir  string
	base string
}

func newReference(f *testing.F, source string) *reference {
	f.Helper()
	r := &reference{dir: f.TempDir()}
	if err := os.CopyFS(r.dir, os.DirFS(source)); err != nil {
		f.Fatal(err)
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "--all", "--force"}, {"commit", "--quiet", "--message=base"}} {
		if _, err := r.git(args...); err != nil {
			f.Fatal(args, err)
		}
	}
	base, err := r.git("rev-parse", "HEAD")
	if err != nil {
		f.Fatal(err)
	}
	r.base = base
	return r
}

func (r *reference) git(args ...string) (string, error) {
	c := exec.Command("git", append([]string{"-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "gc.auto=0", "-C", r.dir}, args...)...)
	out, err := c.Output()
	return strings.TrimSpace(string(out)), err
}

// trees returns what git makes of mails or diffs in each way that a user may
// take: a mail may be kept with the CR at the ends of its lines or without, and
// one that git am refuses, for it has no sender, can be taken apart by git
// mailinfo; a diff may have lost its CR, or have a byte order mark.
func (r *reference) trees(dir string, mails bool, parts [][]byte) []string {
	var paths []string
	write := func(i int, kind string, text []byte) string {
		path := filepath.Join(dir, fmt.Sprint(kind, i))
		if err := os.WriteFile(path, text, 0o644); err != nil {
			panic(err)
		}
		return path
	}
	for i, text := range parts {
		paths = append(paths, write(i, "part", text))
	}
	// Commands, one after the other. Without -p1, git guesses that from names.
	var plain, stripped [][]string
	ways := [][][]string{{append([]string{"apply", "--index"}, paths...)}}
	if mails {
		ways = nil
		for _, cr := range []string{"nowarn", "strip"} {
			ways = append(ways, [][]string{append([]string{"am", "--quiet", "--quoted-cr=" + cr, "--patch-format=mbox"}, paths...)})
		}
		split := filepath.Join(dir, "mails")
		for i, path := range paths {
			to := fmt.Sprint(split, i)
			os.Mkdir(to, 0o755)
			count, err := r.git("mailsplit", "-b", "-o"+to, "--", path)
			if err != nil {
				continue
			}
			n, _ := strconv.Atoi(count)
			for k := 1; k <= n; k++ {
				diff := filepath.Join(to, fmt.Sprintf("%d.diff", k))
				c := exec.Command("git", "mailinfo", "-n", "--quoted-cr=strip", filepath.Join(to, "message"), diff)
				if c.Stdin, err = os.Open(filepath.Join(to, fmt.Sprintf("%04d", k))); err != nil {
					panic(err)
				}
				c.Dir = to
				c.Run()
				if fi, err := os.Stat(diff); err == nil && fi.Size() > 0 {
					plain = append(plain, []string{"apply", "--index", diff})
					stripped = append(stripped, []string{"apply", "--index", "-p1", diff})
				}
			}
		}
	} else {
		for i, text := range parts {
			text = bytes.ReplaceAll(bytes.TrimPrefix(text, []byte("\ufeff")), []byte("\r\n"), []byte("\n"))
			diff := write(i, "plain", text)
			plain = append(plain, []string{"apply", "--index", diff})
			stripped = append(stripped, []string{"apply", "--index", "-p1", diff})
		}
	}
	var made []string
	for _, way := range append(ways, plain, stripped) {
		err := error(nil)
		for _, args := range way {
			if err == nil {
				_, err = r.git(args...)
			}
		}
		if tree, treeErr := r.git("write-tree"); err == nil && treeErr == nil {
			made = append(made, tree)
		}
		os.RemoveAll(filepath.Join(r.dir, ".git/rebase-apply"))
		r.git("reset", "--quiet", "--hard", r.base)
		r.git("clean", "-ffdxq")
	}
	return made
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
