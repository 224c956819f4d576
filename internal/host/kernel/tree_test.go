package kernel

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/host/cache"
)

func TestSeriesOfEveryFormAppliesToEveryKindOfTree(t *testing.T) {
	isolate(t)
	want := files{
		"drivers/net/tun.c": edit("drivers/net/tun.c", 10, "stop the txq"),
		"include/new.h":     "new\n",
	}
	series := makeSeries(t, files{"include/new.h": "new\n"}, files{"drivers/net/tun.c": want["drivers/net/tun.c"]})
	gz := filepath.Join(t.TempDir(), "all.mbox.gz")
	f, err := os.Create(gz)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	z.Write([]byte(contentOf(t, filepath.Join(series, "all.mbox"))))
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	patches, err := filepath.Glob(filepath.Join(series, "*.patch"))
	if err != nil || len(patches) != 2 {
		t.Fatal(patches, err)
	}
	forms := map[string][]string{
		"directory":      {series},
		"patch files":    patches,
		"mbox":           {filepath.Join(series, "all.mbox")},
		"gzipped mbox":   {gz},
		"bare diff":      {filepath.Join(series, "all.diff")},
		"mail, then not": {patches[0], diffOf(t, patches[1])},
	}
	for kind, make := range sources {
		source := make(t)
		for form, paths := range forms {
			t.Run(kind+"/"+form, func(t *testing.T) {
				mustPrepare(t, source) // so that there is something to change
				dir := mustPrepare(t, source, paths...)
				for path, content := range want {
					if got := contentOf(t, filepath.Join(dir, path)); got != content {
						t.Errorf("%s is\n%s", path, got)
					}
				}
				dir = mustPrepare(t, source)
				if exists(filepath.Join(dir, "include/new.h")) || contentOf(t, filepath.Join(dir, "drivers/net/tun.c")) != tinyKernel["drivers/net/tun.c"] {
					t.Error("the series is still there when none is asked for")
				}
			})
		}
	}
}

// snapshot is what can be seen of a tree and of its repository: contents,
// modes and times.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	seen := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		seen[path] = fmt.Sprint(fi.Mode(), fi.Size())
		// git touches an object that it has no need to write, so that gc
		// keeps it (object-file.c: freshen_loose_object), here too; and a
		// shared index that it reads (read-cache.c: freshen_shared_index).
		if !strings.Contains(path, "/.git/objects/") && !strings.Contains(path, "/.git/sharedindex.") {
			seen[path] += fi.ModTime().String()
		}
		if d.Type().IsRegular() {
			seen[path] += contentOf(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

func TestUserTreeIsLeftAsItWas(t *testing.T) {
	isolate(t)
	series := makeSeries(t, files{"drivers/net/tun.c": edit("drivers/net/tun.c", 10, "stop the txq")})
	bad := makeSeries(t, files{"drivers/net/tun.c": edit("drivers/net/tun.c", 10, "x")}, files{"drivers/net/tun.c": edit("drivers/net/tun.c", 11, "y")})
	for kind, make := range sources {
		t.Run(kind, func(t *testing.T) {
			source := make(t)
			files{"drivers/net/tun.c": edit("drivers/net/tun.c", 30, "not committed"), "drivers/net/new.c": "new\n", ".config": "CONFIG_X=y\n", "init/main.o": "object"}.write(t, source)
			before := snapshot(t, source)
			mustPrepare(t, source, series)
			if _, err := prepared(t, source, filepath.Join(bad, "0002-net-step-2.patch")); err == nil {
				t.Error("a patch that does not fit was applied")
			}
			after := snapshot(t, source)
			for path := range before {
				if after[path] != before[path] {
					t.Errorf("%s was changed", path)
				}
			}
			for path := range after {
				if _, ok := before[path]; !ok {
					t.Errorf("%s appeared", path)
				}
			}
		})
	}
}

func TestWorkingTreeIsBuiltAsItStands(t *testing.T) {
	isolate(t)
	for kind, make := range sources {
		t.Run(kind, func(t *testing.T) {
			source := make(t)
			clean := mustPrepare(t, source)
			identity := func() string {
				src, err := openSource(t.Context(), source, true, os.Stderr)
				if err != nil {
					t.Fatal(err)
				}
				id, err := src.identity(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return id
			}
			before := identity()
			files{"notes.log": "", "drivers/net/tun.o": "object"}.write(t, source)
			if kind == "git" && identity() != before {
				t.Error("files that are no source change the identity")
			}
			files{
				"drivers/net/tun.c": edit("drivers/net/tun.c", 10, "not staged"),
				"include/ring.h":    edit("include/ring.h", 10, "staged"),
				"drivers/net/new.c": "untracked\n",
			}.write(t, source)
			if kind == "git" {
				userGit(t, source, "add", "include/ring.h")
			}
			if err := os.Remove(filepath.Join(source, "drivers/net/tap.c")); err != nil {
				t.Fatal(err)
			}
			if identity() == before {
				t.Error("changes do not change the identity")
			}
			dir := mustPrepare(t, source)
			if dir != clean {
				t.Errorf("prepared in %s, before in %s", dir, clean)
			}
			for _, path := range []string{"drivers/net/tun.c", "include/ring.h", "drivers/net/new.c"} {
				if contentOf(t, filepath.Join(dir, path)) != contentOf(t, filepath.Join(source, path)) {
					t.Errorf("%s is not as in the working tree", path)
				}
			}
			for _, path := range []string{"drivers/net/tap.c", "drivers/net/tun.o"} {
				if exists(filepath.Join(dir, path)) {
					t.Errorf("%s should not be there", path)
				}
			}
			userTun := edit("drivers/net/tun.c", 30, "series")
			series := makeSeries(t, files{"drivers/net/tun.c": userTun})
			dir = mustPrepare(t, source, series)
			if got := contentOf(t, filepath.Join(dir, "drivers/net/tun.c")); !strings.Contains(got, "not staged\n") || !strings.Contains(got, "series\n") {
				t.Errorf("the series is not on top of the working tree:\n%s", got)
			}
		})
	}
}

func TestFilesThatDoNotDifferKeepTheirTimes(t *testing.T) {
	isolate(t)
	header := edit("include/ring.h", 5, "both series")
	a := makeSeries(t, files{"include/ring.h": header}, files{"drivers/net/tun.c": edit("drivers/net/tun.c", 10, "a")})
	b := makeSeries(t, files{"include/ring.h": header}, files{"drivers/net/tun.c": edit("drivers/net/tun.c", 10, "b")})
	for kind, make := range sources {
		t.Run(kind, func(t *testing.T) {
			source := make(t)
			dir := mustPrepare(t, source, a)
			old := time.Now().Add(-time.Hour)
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				return errors.Join(err, os.Chtimes(path, old, old))
			})
			if err != nil {
				t.Fatal(err)
			}
			mustPrepare(t, source, b)
			for path, changed := range map[string]bool{"drivers/net/tun.c": true, "include/ring.h": false, "Makefile": false} {
				fi, err := os.Stat(filepath.Join(dir, path))
				if err != nil {
					t.Fatal(err)
				}
				if got := fi.ModTime().After(old.Add(time.Minute)); got != changed {
					t.Errorf("%s written anew: %v, want %v", path, got, changed)
				}
			}
		})
	}
}

func TestKilledCheckoutIsRepaired(t *testing.T) {
	isolate(t)
	for kind, make := range sources {
		t.Run(kind, func(t *testing.T) {
			source := make(t)
			dir := mustPrepare(t, source)
			// As a kill in the middle leaves it: locked, with a file that
			// the index does not know, and one half written.
			files{
				"src/include/leftover.h": "x\n",
				"src/drivers/net/tun.c":  "half\n",
				"src.index.lock":         "",
				"src.unfinished":         "",
			}.write(t, filepath.Dir(dir))
			if kind == "unpacked" {
				// There the blob is stored when a series touches the file.
				mustPrepare(t, source, makeSeries(t, files{"drivers/net/tun.c": edit("drivers/net/tun.c", 10, "a")}))
			}
			mustPrepare(t, source)
			if exists(filepath.Join(dir, "include/leftover.h")) {
				t.Error("what the killed run left is still there")
			}
			if contentOf(t, filepath.Join(dir, "drivers/net/tun.c")) != tinyKernel["drivers/net/tun.c"] {
				t.Error("the half-written file is still there")
			}
			if left, _ := filepath.Glob(filepath.Join(os.Getenv(cache.Env), "tmp/*")); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// The tree in the cache is cleaned and overwritten; what it links to is not.
func TestLinkedTreeIsRefused(t *testing.T) {
	isolate(t)
	for kind, make := range sources {
		t.Run(kind, func(t *testing.T) {
			source := make(t)
			dir := mustPrepare(t, source)
			theirs := t.TempDir()
			files{"thesis.tex": "x\n", "Makefile": "mine\n"}.write(t, theirs)
			files{"src.unfinished": ""}.write(t, filepath.Dir(dir))
			if err := errors.Join(os.RemoveAll(dir), os.Symlink(theirs, dir)); err != nil {
				t.Fatal(err)
			}
			if _, err := prepared(t, source); err == nil || !strings.Contains(err.Error(), dir+" is a link") {
				t.Errorf("%v; want a refusal that names %s", err, dir)
			}
			if contentOf(t, filepath.Join(theirs, "thesis.tex")) != "x\n" || contentOf(t, filepath.Join(theirs, "Makefile")) != "mine\n" {
				t.Error("files outside of the cache were written")
			}
		})
	}
}

func TestTwoBuildsOfOneSourceTakeTurns(t *testing.T) {
	isolate(t)
	source := sources["git"](t)
	series := makeSeries(t, files{"drivers/net/tun.c": edit("drivers/net/tun.c", 10, "a")})
	done := make(chan error)
	for range 4 {
		go func() {
			_, err := prepared(t, source, series)
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
