package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Keep copies a kernel with all that belongs to it out of the cache, to dir, which
// may be taken to another machine. Of what is there, only another kernel that was
// kept is replaced.
func (r *Result) Keep(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keep the kernel: %w", err)
	}
	if len(entries) > 0 && !exists(filepath.Join(dir, descriptionFile)) {
		return fmt.Errorf("keep the kernel: %s is not empty, and holds no kernel that could be replaced: name another directory", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("keep the kernel: %w", err)
	}
	if err := os.CopyFS(dir, os.DirFS(r.Dir)); err != nil {
		return diskFull(fmt.Errorf("keep the kernel: %w", err), dir)
	}
	return nil
}

// Open returns the kernel that Keep has left in dir.
func Open(dir string) (*Result, error) {
	if dir == "" {
		return nil, errors.New("no kernel is named: ringproof kernel -o DIR builds one into a directory")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	r, ok := open(dir)
	if !ok {
		return nil, fmt.Errorf("%s does not hold a whole kernel: ringproof kernel -o %s builds one into it", dir, dir)
	}
	return r, nil
}
