package cache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDirFollowsEnvironment(t *testing.T) {
	root := t.TempDir()
	t.Setenv(Env, root)
	dir, err := Dir("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(root, "a", "b"); dir != want {
		t.Errorf("Dir = %s, want %s", dir, want)
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		t.Errorf("Dir did not make %s: %v", dir, err)
	}
}

func TestRelativeCacheIsRefused(t *testing.T) {
	t.Setenv(Env, "cache")
	if dir, err := Dir("a"); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("Dir = %s, %v; want an error that asks for an absolute path", dir, err)
	}
}

func TestDirSaysHowToMoveTheCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(Env, file)
	_, err := Dir("a")
	if err == nil || !strings.Contains(err.Error(), Env) {
		t.Errorf("Dir below a file: %v; want an error that names %s", err, Env)
	}
}

func TestPublishIsAllOrNothing(t *testing.T) {
	root := t.TempDir()
	t.Setenv(Env, root)
	dst := filepath.Join(root, "kernels", "key")
	broken := errors.New("broken")
	err := Publish(dst, func(tmp string) error {
		os.WriteFile(filepath.Join(tmp, "half"), nil, 0o644)
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("Publish = %v, want fill's error", err)
	}
	if _, err := os.Stat(dst); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a failed Publish left %s", dst)
	}
	write := func(text string) func(string) error {
		return func(tmp string) error { return os.WriteFile(filepath.Join(tmp, "f"), []byte(text), 0o644) }
	}
	for _, text := range []string{"first", "second"} {
		if err := Publish(dst, write(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dst, "f")); string(got) != "first" {
		t.Errorf("published %q, %v; want the first", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "kernels/.scratch*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPublishSweepsOnlyTheDead(t *testing.T) {
	root := t.TempDir()
	t.Setenv(Env, root)
	dead := filepath.Join(root, ".scratch-1")
	theirs := filepath.Join(root, "12345")
	err := Publish(filepath.Join(root, "outer"), func(living string) error {
		for _, dir := range []string{dead, theirs} {
			if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
				return err
			}
		}
		if err := Publish(filepath.Join(root, "inner"), func(string) error { return nil }); err != nil {
			return err
		}
		_, err := os.Stat(living)
		return err
	})
	if err != nil {
		t.Errorf("a second Publish disturbed the first: %v", err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s of a dead run is still there", dead)
	}
	if _, err := os.Stat(filepath.Join(theirs, "sub")); err != nil {
		t.Errorf("it removed what is not a scratch directory: %v", err)
	}
}

// What is made of what RINGPROOF_CACHE names. Whatever it is, nothing that was
// in it may be gone afterwards.
func TestOnlyACacheIsTaken(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []string // directories end in a slash
		foreign bool
	}{
		{"does not exist", nil, false},
		{"empty", []string{}, false},
		{"home", []string{".bashrc", "tmp/", "tmp/thesis.tex", "tmp/123/", "tmp/.scratch-1/"}, true},
		{"another program's cache", []string{"CACHEDIR.TAG", "tmp/", "locks/"}, true},
		{"nothing but tmp", []string{"tmp/", "tmp/123/"}, true},
		{"names of ours that are files", []string{"tmp/", "tmp/123/", "locks"}, true},
		{"a cache without a mark", []string{"locks/", "trees/", "kernels/", "kernels/0e0367/", "tmp/", "tmp/123/"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			t.Setenv(Env, root)
			if c.entries != nil {
				if err := os.Mkdir(root, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, entry := range c.entries {
				path := filepath.Join(root, entry)
				var err error
				if strings.HasSuffix(entry, "/") {
					err = os.Mkdir(path, 0o755)
				} else {
					err = os.WriteFile(path, []byte("theirs"), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // with the mark the second time, if it got one
				scratch, err := NewScratch()
				var foreign *ForeignError
				switch {
				case c.foreign && !errors.As(err, &foreign):
					t.Errorf("NewScratch = %v, want a ForeignError", err)
				case c.foreign && !strings.Contains(err.Error(), Env):
					t.Errorf("%v: does not name %s", err, Env)
				case !c.foreign && err != nil:
					t.Error(err)
				}
				if err == nil {
					scratch.Remove()
				}
			}
			for _, entry := range c.entries {
				if _, err := os.Stat(filepath.Join(root, entry)); err != nil {
					t.Errorf("it deletes its user's files: %v", err)
				}
			}
			if entries, _ := os.ReadDir(root); c.foreign && marked(root) {
				t.Errorf("it has marked %v", entries)
			}
		})
	}
}

func TestAFullDiskLeavesNoHalfMark(t *testing.T) {
	root := t.TempDir()
	t.Setenv(Env, root)
	if err := os.WriteFile(filepath.Join(root, markFile), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Dir("tmp"); err != nil || !marked(root) {
		t.Errorf("Dir = %v, marked: %v", err, marked(root))
	}
}

// Parts of the cache on another file system, as -v volume:kernels makes them.
func TestPublishOnAnotherFileSystem(t *testing.T) {
	root := t.TempDir()
	t.Setenv(Env, root)
	elsewhere, err := os.MkdirTemp("/dev/shm", "")
	if err != nil {
		t.Skip("needs a second file system: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(elsewhere) })
	if _, err := Dir(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(root, "kernels")); err != nil {
		t.Fatal(err)
	}
	err = Publish(filepath.Join(root, "kernels", "key"), func(tmp string) error {
		var here, there unix.Stat_t
		if err := errors.Join(unix.Stat(root, &here), unix.Stat(elsewhere, &there)); err != nil {
			return err
		}
		if here.Dev == there.Dev {
			t.Skip("needs a second file system")
		}
		return os.WriteFile(filepath.Join(tmp, "f"), nil, 0o644)
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(elsewhere, "key", "f")); err != nil {
		t.Error(err)
	}
}

// as makes this test's thread another user to the file system.
func as(t *testing.T, uid uintptr) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	runtime.LockOSThread()
	old, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, uid, 0, 0)
	t.Cleanup(func() {
		unix.RawSyscall(unix.SYS_SETFSUID, old, 0, 0)
		runtime.UnlockOSThread()
	})
}

func TestCacheOfSomebodyElse(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(Env, root)
	if _, err := Dir("tmp"); err != nil {
		t.Fatal(err)
	}
	as(t, 65534)
	for what, err := range map[string]error{
		"NewScratch": func() error { _, err := NewScratch(); return err }(),
		"Acquire":    func() error { _, err := Acquire(t.Context(), "x", os.Stderr); return err }(),
		"Publish":    Publish(filepath.Join(root, "kernels", "key"), func(string) error { return nil }),
	} {
		var access *AccessError
		if !errors.As(err, &access) || !strings.Contains(access.Owner, "uid 0") || !strings.Contains(err.Error(), Env) {
			t.Errorf("%s: %v; want whose the cache is, and %s", what, err, Env)
		}
	}
}

func TestCacheIsSharedByTheUmask(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	t.Setenv(Env, root)
	old := unix.Umask(0o002)
	defer unix.Umask(old)
	if err := Publish(filepath.Join(root, "kernels", "key"), func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(t.Context(), "x", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if fi, err := d.Info(); err != nil || fi.Mode().Perm()&0o060 != 0o060 {
			t.Errorf("the group cannot write to %s: %v, %v", path, fi.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFullAndReadOnly(t *testing.T) {
	root := t.TempDir()
	t.Setenv(Env, root)
	for errno, want := range map[error]string{unix.ENOSPC: "no space left in " + root, unix.EDQUOT: "no space left in " + root, unix.EROFS: "mounted read-only"} {
		err := Publish(filepath.Join(root, "kernels", "key"), func(tmp string) error {
			return &fs.PathError{Op: "write", Path: tmp, Err: errno}
		})
		if err == nil || !errors.Is(err, errno) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), Env) {
			t.Errorf("%v: %v; want %q and %s", errno, err, want, Env)
		}
	}
}

func TestAcquireExcludes(t *testing.T) {
	t.Setenv(Env, t.TempDir())
	var wg sync.WaitGroup
	var inside atomic.Int32
	for range 4 {
		wg.Go(func() {
			for range 5 {
				var waiting strings.Builder
				l, err := Acquire(t.Context(), "source/x", &waiting)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold the lock at once", n)
				}
				time.Sleep(time.Millisecond)
				inside.Add(-1)
				l.Release()
			}
		})
	}
	wg.Wait()
}

func TestAcquireSaysForWhatItWaitsAndCanBeCancelled(t *testing.T) {
	t.Setenv(Env, t.TempDir())
	l, err := Acquire(t.Context(), "the source", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var progress strings.Builder
	_, err = Acquire(ctx, "the source", &progress)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Acquire = %v, want the deadline", err)
	}
	if got := progress.String(); !strings.Contains(got, "the source") || !strings.Contains(got, "process ") || strings.Count(got, "\n") != 1 {
		t.Errorf("while waiting it said %q", got)
	}
}

func TestLockIsHeldByWhoInheritsIt(t *testing.T) {
	t.Setenv(Env, t.TempDir())
	l, err := Acquire(t.Context(), "x", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(l.File().Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var progress strings.Builder
	if _, err := Acquire(ctx, "x", &progress); err == nil {
		t.Error("acquired what a duplicate of the file still holds")
	}
	unix.Close(fd)
	l, err = Acquire(t.Context(), "x", &progress)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}
