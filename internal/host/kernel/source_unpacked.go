package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// unpacked is a tree of the user's without git.
type unpacked struct {
	dir  string
	tree string // of the content, once identity was asked for
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
	scratch, err := cache.NewScratch()
	if err != nil {
		return "", err
	}
	defer scratch.Remove()
	kept := filepath.Join(filepath.Dir(r.dir), "user.index")
	index := filepath.Join(scratch.Path, "index")
	if err := copyFile(kept, index); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	u.tree, err = r.scan(ctx, u.dir, index)
	if err != nil {
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
	paths, err := sourceFiles(u.dir)
	if err != nil {
		return "", err
	}
	scratch, err := cache.NewScratch()
	if err != nil {
		return "", err
	}
	defer scratch.Remove()
	for _, path := range paths {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err := copyEntry(filepath.Join(u.dir, path), filepath.Join(scratch.Path, path)); err != nil {
			return "", fmt.Errorf("copy the kernel's source: %w", err)
		}
	}
	os.Remove(t.index)
	id, err := t.repo.scan(ctx, scratch.Path, t.index)
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
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if target, err := os.Readlink(from); err == nil {
		return os.Symlink(target, to)
	}
	return copyFile(from, to)
}

// sourceFiles lists the files below dir that are not products of a build, as
// paths relative to it. The tree's own .gitignore cannot tell: Debian's
// ignores everything.
func sourceFiles(dir string) ([]string, error) {
	root, err := cache.Root()
	if err != nil {
		return nil, err
	}
	var paths []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		if d.IsDir() {
			if path == root || d.Name() == ".git" || isBuildDir(rel) {
				return filepath.SkipDir
			}
			return nil
		}
		if (d.Type().IsRegular() || d.Type()&fs.ModeSymlink != 0) && !isProduct(rel) {
			paths = append(paths, rel)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the kernel's source: %w", err)
	}
	return paths, nil
}

// isBuildDir recognises the directories that make mrproper removes.
func isBuildDir(rel string) bool {
	switch rel {
	case "include/config", "include/generated", ".tmp_versions":
		return true
	}
	archDir, ok := strings.CutSuffix(rel, "/include/generated")
	return ok && strings.HasPrefix(archDir, "arch/")
}

// isProduct recognises what a build inside the tree leaves behind and what
// would make the build with O= refuse the tree (the check for .config and
// include/config in the top Makefile).
func isProduct(rel string) bool {
	switch rel {
	case ".config", ".config.old", "System.map", "Module.symvers", "vmlinux", "modules.order", "modules.builtin", "vmlinux.o", "vmlinux.a":
		return true
	}
	name := filepath.Base(rel)
	if strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".cmd") || strings.HasSuffix(name, ".d") || strings.HasPrefix(name, ".tmp_")) {
		return true
	}
	switch filepath.Ext(name) {
	case ".o", ".a", ".ko", ".mod":
		return true
	}
	return false
}
