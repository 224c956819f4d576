package cache

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

// Scratch is an empty directory in the cache to work in. Its flock says that
// its owner lives: the kernel drops it however the owner dies.
type Scratch struct {
	Path string
	lock *os.File
}

// scratchName matches the names of scratch directories. Nothing else is ever
// swept.
var scratchName = regexp.MustCompile(`^\.scratch-[0-9]+$`)

// NewScratch makes one, and removes those whose owners are gone. The caller
// must Remove it; in any case it is gone after the next NewScratch that
// follows the end of this process.
func NewScratch() (*Scratch, error) { return newScratch("tmp") }

// NewScratchBeside makes one in the directory of path, a path below Root, for
// what is to be renamed to path: both are on one file system, whatever parts of
// the cache are links to others or mounts of them. The next NewScratchBeside
// there removes what is left of it.
func NewScratchBeside(path string) (*Scratch, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	parent, err := filepath.Rel(root, filepath.Dir(path))
	if err != nil || !filepath.IsLocal(parent) {
		return nil, fmt.Errorf("%s is not in the cache %s", path, root)
	}
	return newScratch(parent)
}

func newScratch(dir string) (*Scratch, error) {
	parent, err := Dir(dir)
	if err != nil {
		return nil, err
	}
	// Between Mkdir and Flock a new directory looks abandoned: the parent's
	// lock keeps others from sweeping at that moment.
	guard, err := os.Open(parent)
	if err != nil {
		return nil, explain(parent, err)
	}
	defer guard.Close()
	if err := flock(guard, unix.LOCK_EX); err != nil {
		return nil, err
	}
	sweep(parent)

	// Not os.MkdirTemp, which shuts out the group.
	path := filepath.Join(parent, ".scratch-"+strconv.FormatUint(rand.Uint64(), 10))
	if err := os.Mkdir(path, dirMode); err != nil {
		return nil, explain(parent, err)
	}
	lock, err := os.Open(path)
	if err != nil {
		return nil, explain(parent, err)
	}
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("claim a directory in the cache: %w", err)
	}
	return &Scratch{path, lock}, nil
}

// Remove removes the directory with all that is in it. It does nothing if the
// directory was moved away.
func (s *Scratch) Remove() {
	os.RemoveAll(s.Path)
	s.lock.Close()
}

// sweep removes the scratch directories in parent that no living process owns.
// What it cannot remove only takes room; the next run tries again.
func sweep(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !scratchName.MatchString(entry.Name()) || !entry.IsDir() {
			continue
		}
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
