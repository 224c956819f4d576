package cache

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Scratch is an empty directory in the cache to work in. Its flock says that
// its owner lives: the kernel drops it however the owner dies.
type Scratch struct {
	Path string
	lock *os.File
}

// NewScratch makes one, and removes those whose owners are gone. The caller
// must Remove it, unless it moves Path elsewhere in the cache; in any case it
// is gone after the next NewScratch that follows the end of this process.
func NewScratch() (*Scratch, error) {
	parent, err := Dir("tmp")
	if err != nil {
		return nil, err
	}
	// Between Mkdir and Flock a new directory looks abandoned: the parent's
	// lock keeps others from sweeping at that moment.
	guard, err := os.Open(parent)
	if err != nil {
		return nil, fmt.Errorf("open the cache: %w", err)
	}
	defer guard.Close()
	if err := flock(guard, unix.LOCK_EX); err != nil {
		return nil, err
	}
	sweep(parent)

	path, err := os.MkdirTemp(parent, "")
	if err != nil {
		return nil, fmt.Errorf("make a directory in the cache: %w", err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		return nil, fmt.Errorf("make a directory in the cache: %w", err)
	}
	lock, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the cache: %w", err)
	}
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, err
	}
	return &Scratch{path, lock}, nil
}

// Remove removes the directory with all that is in it. It does nothing if the
// directory was moved away.
func (s *Scratch) Remove() {
	os.RemoveAll(s.Path)
	s.lock.Close()
}

// sweep removes what is below parent and owned by no living process. What it
// cannot remove only takes room; the next run tries again.
func sweep(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, entry := range entries {
		path := filepath.Join(parent, entry.Name())
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(path)
		}
		f.Close()
	}
}
