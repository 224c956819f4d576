// Package cache keeps what takes long to make: kernel source trees, built kernels,
// images for the VM.
//
// Everything in it can be deleted at any time when nothing is running; the next run
// makes it again. Users that have a group in common can share the cache: what is made
// in it gets the modes that the umask leaves.
package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Env names the environment variable that moves the cache elsewhere.
const Env = "RINGPROOF_CACHE"

// Modes of what is made in the cache, less what the umask takes away.
const (
	dirMode  = 0o777
	fileMode = 0o666
)

// Root returns the absolute path of the cache: $RINGPROOF_CACHE, which must be absolute, else
// ringproof below the user's cache directory. It need not exist.
func Root() (string, error) {
	if root := os.Getenv(Env); root != "" {
		if !filepath.IsAbs(root) {
			// go test runs each package's tests in another directory.
			return "", fmt.Errorf("%s=%s: must be an absolute path", Env, root)
		}
		return filepath.Clean(root), nil
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache directory: %w; set %s to a directory with some 5 GB free", err, Env)
	}
	return filepath.Join(user, "ringproof"), nil
}

// Dir returns the directory of that name below Root, and makes it if it does
// not exist. The error is a *ForeignError if Root is somebody else's, and an
// *AccessError if this user cannot write there.
func Dir(parts ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	if err := claim(root); err != nil {
		return "", explain(root, err)
	}
	dir := filepath.Join(append([]string{root}, parts...)...)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return "", explain(dir, err)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return "", explain(dir, &fs.PathError{Op: "write to", Path: dir, Err: err})
	}
	return dir, nil
}

// The mark that makes a directory ours is a cache directory tag
// (https://bford.info/cachedir), which also tells backup programs to leave the
// directory out. Other programs' caches have one, too: the second line differs.
const (
	markFile = "CACHEDIR.TAG"
	mark     = "Signature: 8a477f597d28d172789f06886806bc55\n" +
		"# This directory is ringproof's cache. It may be deleted when no ringproof runs.\n"
)

// ForeignError says that a directory was named as the cache that is not one:
// what is in it is somebody else's, and ringproof neither adds to it nor
// removes anything.
type ForeignError struct {
	Dir   string
	Holds string // an entry that is not ringproof's
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is not a cache of ringproof's: it holds %q and has no %s of ringproof's; set %s to a directory that is empty or does not exist", e.Dir, e.Holds, markFile, Env)
}

// claim makes sure that root is a cache of ours: that it has our mark, or is
// given it because we made it, it was empty, or it is a cache from before
// there was a mark.
func claim(root string) error {
	if marked(root) {
		return nil
	}
	if err := os.MkdirAll(root, dirMode); err != nil {
		return err
	}
	// Another run may be here, too, and have written the mark by half.
	dir, err := os.Open(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := flock(dir, unix.LOCK_EX); err != nil {
		return err
	}
	if marked(root) {
		return nil
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	if foreign, ok := foreignEntry(entries); ok {
		return &ForeignError{root, foreign}
	}
	return os.WriteFile(filepath.Join(root, markFile), []byte(mark), fileMode)
}

func marked(root string) bool {
	text, err := os.ReadFile(filepath.Join(root, markFile))
	return err == nil && string(text) == mark
}

// unmarked are the directories of a cache from before there was a mark.
var unmarked = []string{"accel", "initramfs", "kernels", "locks", "machine", "programs", "sources", "tmp", "trees"}

// foreignEntry finds what is in neither an empty directory nor an unmarked
// cache, in which nothing was ever done without a lock or a finding.
func foreignEntry(entries []fs.DirEntry) (name string, ok bool) {
	// A run that was killed, or that found the disk full, leaves it empty.
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		fi, err := e.Info()
		return e.Name() == markFile && err == nil && fi.Mode().IsRegular() && fi.Size() == 0
	})
	if len(entries) == 0 {
		return "", false
	}
	ours := false
	for _, e := range entries {
		// A part may be a link to another file system.
		if !slices.Contains(unmarked, e.Name()) || !e.IsDir() && e.Type() != fs.ModeSymlink {
			return e.Name(), true
		}
		ours = ours || slices.Contains([]string{"locks", "accel", "machine"}, e.Name())
	}
	return entries[0].Name(), !ours
}

// Publish makes dir, a path below Root, appear complete or not at all. fill
// is given an empty directory to write to, which becomes dir once fill has
// returned nil.
//
// Two that publish the same dir at once do not disturb each other: the first
// to be complete stays, so dir must name its content. What runs that were
// killed inside fill left behind is removed by the next Publish beside it.
func Publish(dir string, fill func(tmp string) error) error {
	tmp, err := NewScratchBeside(dir)
	if err != nil {
		return err
	}
	defer tmp.Remove()
	if err := fill(tmp.Path); err != nil {
		return explain(dir, err)
	}
	err = os.Rename(tmp.Path, dir)
	if errors.Is(err, os.ErrExist) { // ENOTEMPTY too: syscall.Errno.Is
		return nil
	}
	if err != nil {
		return explain(dir, err)
	}
	return nil
}
