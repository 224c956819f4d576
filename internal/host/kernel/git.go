package kernel

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// repo is a git repository of ours in the cache, beside the trees that it
// describes. It need not hold every blob that its trees name: those of files
// that no series has touched are in the tree on disk only, which saves to
// store a whole kernel a second time. See (*tree).store.
type repo struct {
	dir string // GIT_DIR
}

// openRepo makes the repository unless it exists. alternate is the object
// directory of the user's repository to read from, "" for none.
func openRepo(ctx context.Context, dir, format, alternate string) (repo, error) {
	r := repo{dir}
	if !exists(filepath.Join(dir, "HEAD")) {
		err := cache.Publish(dir, func(tmp string) error {
			_, err := repo{tmp}.git(ctx, "init", "--quiet", "--template=", "--object-format="+format).output()
			return err
		})
		if err != nil {
			return r, err
		}
	}
	// Written once: two runs may be here at a time.
	alternates := filepath.Join(dir, "objects", "info", "alternates")
	if known, _ := os.ReadFile(alternates); alternate != "" && string(known) != alternate+"\n" {
		if err := replaceFile(alternates, alternate+"\n"); err != nil {
			return r, fmt.Errorf("prepare the cached git repository: %w", err)
		}
	}
	return r, nil
}

// gitCommand prepares a git command with configuration of its own, each as
// "name=value".
func gitCommand(ctx context.Context, config []string, args ...string) *cmd {
	var all []string
	for _, c := range config {
		all = append(all, "-c", c)
	}
	c := command(ctx, "git", append(all, args...)...)
	c.title = "git " + args[0]
	return c
}

// git prepares a git command in the repository, deaf to the configuration of
// the user and the machine: hooks, signing, apply.whitespace and core.autocrlf
// would each change what comes out.
func (r repo) git(ctx context.Context, args ...string) *cmd {
	const name, mail = "ringproof", "ringproof@localhost"
	return gitCommand(ctx, []string{
		// Both files have a default place in the home directory, which no
		// setting of git's environment moves.
		"core.excludesFile=/dev/null", "core.attributesFile=/dev/null",
		// As in git am -3: where little is known of the base, a directory
		// always looks as if it had been renamed.
		"merge.directoryRenames=false",
	}, args...).env(
		"GIT_DIR="+r.dir,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_AUTHOR_NAME="+name, "GIT_AUTHOR_EMAIL="+mail,
		"GIT_COMMITTER_NAME="+name, "GIT_COMMITTER_EMAIL="+mail,
	)
}

// worktree adds to a git command the tree and the index that it works on.
func (c *cmd) worktree(dir, index string) *cmd {
	return c.in(dir).env("GIT_WORK_TREE="+dir, "GIT_INDEX_FILE="+index)
}

// index adds to a git command the index that it works on.
func (c *cmd) index(path string) *cmd { return c.env("GIT_INDEX_FILE=" + path) }

// entry is a file in a git tree.
type entry struct {
	mode, id, path string
}

// submodule is the mode of an entry that is a commit of another repository.
const submodule = "160000"

// list returns the files of a tree that are wanted.
func (r repo) list(ctx context.Context, tree string, wanted func(entry) bool) ([]entry, error) {
	out, err := r.git(ctx, "ls-tree", "-r", "-z", tree).output()
	if err != nil {
		return nil, err
	}
	var entries []entry
	for line := range strings.SplitSeq(out, "\x00") {
		// MODE SP TYPE SP ID TAB PATH
		meta, path, _ := strings.Cut(line, "\t")
		if f := strings.Fields(meta); len(f) == 3 {
			if e := (entry{f[0], f[2], path}); wanted(e) {
				entries = append(entries, e)
			}
		}
	}
	return entries, nil
}

// writeTree returns the id of the tree that an index describes.
func (r repo) writeTree(ctx context.Context, index string) (string, error) {
	out, err := r.git(ctx, "write-tree", "--missing-ok").index(index).output()
	return strings.TrimSpace(out), err
}

// missing returns those of entries whose content the repository lacks. That of
// a submodule is in another.
func (r repo) missing(ctx context.Context, entries []entry) ([]entry, error) {
	entries = slices.DeleteFunc(entries, func(e entry) bool { return e.mode == submodule })
	var ids strings.Builder
	for _, e := range entries {
		fmt.Fprintln(&ids, e.id)
	}
	out, err := r.git(ctx, "cat-file", "--batch-check").input(strings.NewReader(ids.String())).output()
	if err != nil {
		return nil, err
	}
	var missing []entry
	i := 0
	for line := range strings.Lines(out) {
		if strings.HasSuffix(line, " missing\n") {
			missing = append(missing, entries[i])
		}
		i++
	}
	return missing, nil
}

// add stores the content of the file at path, a symbolic link's being its
// target, and returns its id.
func (r repo) add(ctx context.Context, path string) (string, error) {
	var content io.Reader
	if target, err := os.Readlink(path); err == nil {
		content = strings.NewReader(target)
	} else {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		content = f
	}
	out, err := r.git(ctx, "hash-object", "-w", "--stdin").input(content).output()
	return strings.TrimSpace(out), err
}

// scan makes an index of files below dir, on top of what is in it, and returns
// the id of their tree. It hashes only files whose stat data has changed, and
// stores none.
func (r repo) scan(ctx context.Context, dir string, paths []string, index string) (string, error) {
	known, err := r.git(ctx, "ls-files", "-z").index(index).output()
	if err != nil {
		return "", err
	}
	_, err = r.git(ctx, "update-index", "--info-only", "--add", "--remove", "-z", "--stdin").worktree(dir, index).
		input(strings.NewReader(strings.Join(paths, "\x00") + "\x00" + known)).output()
	if err != nil {
		return "", err
	}
	return r.writeTree(ctx, index)
}

// untracked returns the files below sub in dir that neither the index has nor
// a .gitignore excludes, relative to dir.
func (r repo) untracked(ctx context.Context, dir, index, sub string) ([]string, error) {
	out, err := r.git(ctx, untracked...).worktree(filepath.Join(dir, sub), index).output()
	if err != nil {
		return nil, err
	}
	return r.flat(ctx, dir, sub, out)
}

// untracked are the arguments of git that list what is not tracked.
var untracked = []string{"ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"}

// flat splits what git lists below sub in dir. A git repository in there has a
// slash at the end of its name: make takes it for a directory like others.
func (r repo) flat(ctx context.Context, dir, sub, list string) ([]string, error) {
	var paths []string
	for path := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		if path == "" {
			continue
		}
		if !strings.HasSuffix(path, "/") {
			paths = append(paths, filepath.Join(sub, path))
			continue
		}
		inside, err := r.untracked(ctx, dir, filepath.Join(r.dir, "no-index"), filepath.Join(sub, path))
		if err != nil {
			return nil, err
		}
		paths = append(paths, inside...)
	}
	return paths, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// replaceFile writes a small file so that a reader sees the old or the new.
func replaceFile(path, content string) error {
	scratch, err := cache.NewScratchBeside(path)
	if err != nil {
		return err
	}
	defer scratch.Remove()
	tmp := filepath.Join(scratch.Path, "file")
	if err := os.WriteFile(tmp, []byte(content), 0o666); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
