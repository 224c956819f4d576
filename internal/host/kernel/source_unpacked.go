package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// unpacked is a tree of the user's without git.
type unpacked struct {
	dir   string
	files []string // its source files; with tree, once identity was asked for
	tree  string
}

func openUnpacked(dir string) (source, error) { return &unpacked{dir: dir}, nil }

func (u *unpacked) name() string  { return sourceName(u.dir, u.dir) }
func (u *unpacked) title() string { return u.dir }

func (u *unpacked) repo(ctx context.Context) (repo, error) {
	return openSourceRepo(ctx, u, "sha1", "")
}

// identity hashes what has changed since the last run, by an index of the
// user's tree that is kept in the cache.
func (u *unpacked) identity(ctx context.Context) (string, error) {
	if u.tree != "" {
		return "tree " + u.tree, nil
	}
	r, err := u.repo(ctx)
	if err != nil {
		return "", err
	}
	kept := filepath.Join(filepath.Dir(r.dir), "user.index")
	scratch, err := cache.NewScratchBeside(kept)
	if err != nil {
		return "", err
	}
	defer scratch.Remove()
	index := filepath.Join(scratch.Path, "index")
	if err := copyFile(kept, index); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if u.files, err = u.list(ctx, r, scratch.Path); err != nil {
		return "", fmt.Errorf("kernel source %s: %w", u.dir, err)
	}
	if u.tree, err = r.scan(ctx, u.dir, u.files, index); err != nil {
		return "", fmt.Errorf("kernel source %s: %w", u.dir, err)
	}
	os.Rename(index, kept) // without it the next run hashes more
	return "tree " + u.tree, nil
}

// base copies the user's tree. As with debian, t.src appears last.
func (u *unpacked) base(ctx context.Context, t *tree) (string, error) {
	if exists(t.src) {
		return u.tree, nil
	}
	scratch, err := cache.NewScratchBeside(t.src)
	if err != nil {
		return "", err
	}
	defer scratch.Remove()
	for _, path := range u.files {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err := copyEntry(filepath.Join(u.dir, path), filepath.Join(scratch.Path, path)); err != nil {
			return "", fmt.Errorf("copy the kernel's source: %w", err)
		}
	}
	os.Remove(t.index)
	id, err := t.repo.scan(ctx, scratch.Path, u.files, t.index)
	if err != nil {
		return "", err
	}
	if id != u.tree {
		return "", fmt.Errorf("kernel source %s has changed while it was copied: try again", u.dir)
	}
	return id, os.Rename(scratch.Path, t.src)
}

// pristine: what the repository lacks is as in the user's tree.
func (u *unpacked) pristine(*tree) string { return u.dir }

func copyEntry(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	if target, err := os.Readlink(from); err == nil {
		return os.Symlink(target, to)
	}
	return copyFile(from, to)
}

// list returns the source files of the tree, relative to its top. What a build
// inside the tree has left must not be among them: make would find it through
// its VPATH. The kernel's .gitignore knows what that is.
func (u *unpacked) list(ctx context.Context, r repo, scratch string) ([]string, error) {
	paths, err := r.untracked(ctx, u.dir, filepath.Join(scratch, "none.index"), "")
	if err != nil {
		return nil, err
	}
	if slices.Contains(paths, "Makefile") {
		return paths, nil
	}
	// Debian's .gitignore excludes everything.
	if exists(filepath.Join(u.dir, ".config")) || exists(filepath.Join(u.dir, "include/config")) {
		return nil, errors.New("has been built in, and its .gitignore does not tell sources from products: run make mrproper there")
	}
	return allFiles(u.dir)
}

// allFiles lists the files and symbolic links below dir, relative to it.
func allFiles(dir string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".git" {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err == nil && (d.Type().IsRegular() || d.Type()&fs.ModeSymlink != 0) {
			paths = append(paths, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the kernel's source: %w", err)
	}
	return paths, nil
}
