package kernel

import "github.com/ringproof/ringproof/internal/host/cache"

// DiskFullError says that the file system of the cache is too full, or became
// so.
type DiskFullError = cache.FullError

// Room that the steps take, measured with 6.12: the unpacked source with its
// index is 1.6 GB, objects and results of a kernel with fragments base or
// inject are 0.7 GB.
const (
	sourceRoom = 1700 << 20
	objectRoom = 800 << 20
	// A package of Debian's, what is in it, and apt's lists.
	downloadRoom = 550 << 20
)

// requireRoom fails early where the step would fail late.
func requireRoom(dir string, need uint64) error {
	have, err := cache.Free(dir)
	if err != nil {
		return err
	}
	if have < need {
		return &DiskFullError{Dir: dir, Free: have, Need: need}
	}
	return nil
}

// diskFull returns err, as a *DiskFullError if that is what it comes from.
func diskFull(err error, dir string) error { return cache.Full(dir, err) }
