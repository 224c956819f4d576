package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// DiskFullError says that the file system of the cache is too full, or became
// so.
type DiskFullError struct {
	Dir  string
	Free uint64 // bytes
	Need uint64 // bytes that the step takes, about; 0 if not known
}

func (e *DiskFullError) Error() string {
	s := fmt.Sprintf("no space left in %s: %d MB free", e.Dir, e.Free>>20)
	if e.Need != 0 {
		s += fmt.Sprintf(", about %d MB needed", e.Need>>20)
	}
	return s + "; make room, or move the cache with " + cache.Env
}

func (e *DiskFullError) Unwrap() error { return unix.ENOSPC }

// Room that the steps take, measured with 6.12: the unpacked source with its
// index is 1.6 GB, objects and results of a kernel with fragments base or
// inject are 0.7 GB.
const (
	sourceRoom = 1700 << 20
	objectRoom = 800 << 20
	// A package of Debian's, what is in it, and apt's lists.
	downloadRoom = 550 << 20
)

func free(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// requireRoom fails early where the step would fail late.
func requireRoom(dir string, need uint64) error {
	have, err := free(dir)
	if err != nil {
		return err
	}
	if have < need {
		return &DiskFullError{dir, have, need}
	}
	return nil
}

// diskFull returns err, as a *DiskFullError if that is what it comes from.
func diskFull(err error, dir string) error {
	var already *DiskFullError
	if err == nil || !errors.Is(err, unix.ENOSPC) || errors.As(err, &already) {
		return err
	}
	have, _ := free(dir)
	return fmt.Errorf("%w (%w)", &DiskFullError{Dir: dir, Free: have}, err)
}
