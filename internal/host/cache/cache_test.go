package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
	if left, _ := os.ReadDir(filepath.Join(root, "tmp")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPublishSweepsOnlyTheDead(t *testing.T) {
	root := t.TempDir()
	t.Setenv(Env, root)
	dead := filepath.Join(root, "tmp", "dead")
	if err := os.MkdirAll(filepath.Join(dead, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := Publish(filepath.Join(root, "outer"), func(living string) error {
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
