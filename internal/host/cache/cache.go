// Package cache is the place where ringproof keeps what is slow to make:
// kernel source trees, built kernels, images for the VM.
//
// Everything in it can be deleted at any time when nothing is running; the
// next run makes it again.
package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Env names the environment variable that moves the cache elsewhere.
const Env = "RINGPROOF_CACHE"

// Root returns the absolute path of the cache: $RINGPROOF_CACHE, which must be absolute, else
// ringproof below the user's cache directory. It need not exist.
func Root() (string, error) {
	if root := os.Getenv(Env); root != "" {
		if !filepath.IsAbs(root) {
			// go test runs each package's tests in another directory.
			return "", fmt.Errorf("%s=%s: must be an absolute path", Env, root)
		}
		return root, nil
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache directory: %w; set %s to a directory with some 5 GB free", err, Env)
	}
	return filepath.Join(user, "ringproof"), nil
}

// Dir returns the directory of that name below Root, and makes it if it does
// not exist.
func Dir(parts ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(append([]string{root}, parts...)...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w; %s moves the cache elsewhere", err, Env)
	}
	return dir, nil
}

// Publish makes dir, a path below Root, appear complete or not at all. fill
// is given an empty directory to write to, which becomes dir once fill has
// returned nil.
//
// Two that publish the same dir at once do not disturb each other: the first
// to be complete stays, so dir must name its content. What runs that were
// killed inside fill left behind is removed by the next Publish.
func Publish(dir string, fill func(tmp string) error) error {
	tmp, err := NewScratch()
	if err != nil {
		return err
	}
	defer tmp.Remove()
	if err := fill(tmp.Path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("publish to the cache: %w", err)
	}
	err = os.Rename(tmp.Path, dir)
	if errors.Is(err, os.ErrExist) { // ENOTEMPTY too: syscall.Errno.Is
		return nil
	}
	if err != nil {
		return fmt.Errorf("publish to the cache: %w", err)
	}
	return nil
}
