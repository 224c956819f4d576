package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// tree is the prepared copy of a source in the cache, with the build
// directories that belong to it. Its owner holds the source's lock.
//
// src always is what the git index says: to bring it to another state is to
// make a git tree of that state and to let git write the files that differ.
// All others keep their times, so make does not rebuild what depends on them.
type tree struct {
	dir      string
	src      string // the files
	index    string // of src
	repo     repo
	base     string // tree of the pristine content
	at       string // tree of what src has since checkout
	lock     *cache.Lock
	progress io.Writer
}

// treeDir is where a source's tree is.
func treeDir(src source) (string, error) { return cache.Dir("trees", src.name()) }

// openSourceRepo is the repository in a source's treeDir.
func openSourceRepo(ctx context.Context, src source, format, alternate string) (repo, error) {
	dir, err := treeDir(src)
	if err != nil {
		return repo{}, err
	}
	return openRepo(ctx, filepath.Join(dir, "git"), format, alternate)
}

func openTree(ctx context.Context, src source, lock *cache.Lock, progress io.Writer) (*tree, error) {
	dir, err := treeDir(src)
	if err != nil {
		return nil, err
	}
	// Makefile: "source directory cannot contain spaces or colons".
	if strings.ContainsAny(dir, " \t:") {
		return nil, fmt.Errorf("make cannot build in %s, because its name has a space or a colon: set %s to a directory without them", dir, cache.Env)
	}
	t := &tree{dir: dir, src: filepath.Join(dir, "src"), index: filepath.Join(dir, "src.index"), lock: lock, progress: progress}
	if !exists(t.src) {
		if err := requireRoom(dir, sourceRoom); err != nil {
			return nil, err
		}
		fmt.Fprintf(progress, "preparing a copy of %s in %s, once\n", src.title(), dir)
	}
	os.Remove(t.index + ".lock") // of a killed run: the source's lock is ours
	if t.repo, err = src.repo(ctx); err != nil {
		return nil, diskFull(err, dir)
	}
	if t.base, err = src.base(ctx, t); err != nil {
		return nil, diskFull(err, dir)
	}
	return t, nil
}

// checkout brings src to the state of the tree want.
func (t *tree) checkout(ctx context.Context, src source, want string) error {
	return diskFull(t.checkout1(ctx, src, want), t.dir)
}

func (t *tree) checkout1(ctx context.Context, src source, want string) error {
	fail := func(err error) error { return fmt.Errorf("update the copy of the source in %s: %w", t.dir, err) }
	if err := os.MkdirAll(t.src, 0o777); err != nil {
		return fail(err)
	}
	if src.pristine(t) != "" {
		differ, err := t.repo.git(ctx, "diff-index", "--cached", "--name-only", "--no-renames", "-z", want).index(t.index).output()
		if err != nil {
			return fail(err)
		}
		paths := make(map[string]bool)
		for path := range strings.SplitSeq(differ, "\x00") {
			paths[path] = true
		}
		if err := t.store(ctx, src, want, func(e entry) bool { return paths[e.path] }); err != nil {
			return fail(err)
		}
	}
	// What follows writes and removes files: nowhere but here.
	if fi, err := os.Lstat(t.src); err != nil {
		return fail(err)
	} else if !fi.IsDir() {
		return fail(errors.New(t.src + " is a link: delete it, and it is made again"))
	}
	// While this mark is there, files may exist that the index lacks.
	mark := filepath.Join(t.dir, "src.unfinished")
	if exists(mark) {
		if _, err := t.repo.git(ctx, "clean", "-ffdxq").worktree(t.src, t.index).output(); err != nil {
			return fail(err)
		}
	}
	if err := os.WriteFile(mark, nil, 0o666); err != nil {
		return fail(err)
	}
	// --reset also repairs what someone has changed in src.
	t.repo.git(ctx, "update-index", "-q", "--refresh").worktree(t.src, t.index).output()
	if _, err := t.repo.git(ctx, "read-tree", "--reset", "-u", want).worktree(t.src, t.index).output(); err != nil {
		return fail(err)
	}
	t.at = want
	return os.Remove(mark)
}

// store makes sure that the repository has the content of those files of a
// tree that are wanted.
func (t *tree) store(ctx context.Context, src source, of string, wanted func(entry) bool) error {
	entries, err := t.repo.list(ctx, of, wanted)
	if err != nil {
		return err
	}
	missing, err := t.repo.missing(ctx, entries)
	if err != nil {
		return err
	}
	for _, e := range missing {
		id, err := t.repo.add(ctx, filepath.Join(src.pristine(t), e.path))
		if err != nil {
			return err
		}
		if id != e.id {
			return errors.New(e.path + " was changed meanwhile, or in the cache: try again, or delete the cached copy")
		}
	}
	return nil
}
