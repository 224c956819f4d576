package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/cache"
)

// gitTree is a git checkout of the user's.
type gitTree struct {
	dir      string // its top
	progress io.Writer
	tree     string // of the content, once identity was asked for
	where    string // the commit, and how many files differ from it
}

func openGitTree(ctx context.Context, dir string, progress io.Writer) (source, error) {
	g := &gitTree{dir: dir, progress: progress}
	if _, err := g.git(ctx, "rev-parse", "--git-dir").output(); err != nil {
		if fi, statErr := os.Lstat(filepath.Join(dir, ".git")); statErr == nil && !fi.IsDir() {
			err = fmt.Errorf("%w: its .git is a file that leads there; a container needs that directory, too", err)
		}
		return nil, fmt.Errorf("kernel source %s: %w", dir, err)
	}
	return g, nil
}

// git prepares a git command in the user's repository that writes nothing to
// it; all that it does is to renew the times of objects, as git does when it
// finds one that it would write, and of a shared index. It follows the user's
// configuration, which says what the files in the working tree mean (filters,
// line ends), but runs no hooks or monitors.
func (g *gitTree) git(ctx context.Context, args ...string) *cmd {
	return gitCommand(ctx, []string{"core.fsmonitor=false", "core.splitIndex=false", "core.hooksPath=/dev/null"}, args...).in(g.dir).
		// A repository that is named and not searched for may be of any user's
		// (git-config(1), safe.directory): whoever names a tree to build runs
		// its Makefile anyway.
		env("GIT_OPTIONAL_LOCKS=0", "GIT_DIR="+filepath.Join(g.dir, ".git"), "GIT_WORK_TREE="+g.dir)
}

func (g *gitTree) ask(ctx context.Context, args ...string) (string, error) {
	out, err := g.git(ctx, args...).output()
	return strings.TrimSpace(out), err
}

func (g *gitTree) name() string  { return sourceName(g.dir, g.dir) }
func (g *gitTree) title() string { return g.dir + g.where }

// repo reads the user's objects where they are.
func (g *gitTree) repo(ctx context.Context) (repo, error) {
	format, err := g.ask(ctx, "rev-parse", "--show-object-format")
	if err != nil {
		return repo{}, err
	}
	objects, err := g.gitPath(ctx, "objects")
	if err != nil {
		return repo{}, err
	}
	return openSourceRepo(ctx, g, format, objects)
}

func (g *gitTree) gitPath(ctx context.Context, name string) (string, error) {
	path, err := g.ask(ctx, "rev-parse", "--git-path", name)
	if err == nil && !filepath.IsAbs(path) {
		path = filepath.Join(g.dir, path)
	}
	return path, err
}

// isSource matches the paths of files that are source by their name.
var isSource = regexp.MustCompile(`\.[chS]$|(Kconfig|Makefile|Kbuild)[^/]*$`)

// identity makes a tree of the working tree, in our repository and with a
// copy of the user's index.
func (g *gitTree) identity(ctx context.Context) (string, error) {
	if g.tree != "" {
		return "tree " + g.tree, nil
	}
	fail := func(err error) error { return fmt.Errorf("kernel source %s: %w", g.dir, err) }
	if conflicts, err := g.ask(ctx, "ls-files", "--unmerged"); err != nil {
		return "", fail(err)
	} else if conflicts != "" {
		return "", fail(errors.New("has unmerged files: resolve the conflicts first"))
	}
	r, err := g.repo(ctx)
	if err != nil {
		return "", fail(err)
	}
	userIndex, err := g.gitPath(ctx, "index")
	if err != nil {
		return "", fail(err)
	}
	scratch, err := cache.NewScratch()
	if err != nil {
		return "", err
	}
	defer scratch.Remove()
	index := filepath.Join(scratch.Path, "index")
	if err := copyFile(userIndex, index); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fail(err)
	}
	// Where our objects are, those of the user's are known, too (openRepo).
	elsewhere := []string{"GIT_INDEX_FILE=" + index, "GIT_OBJECT_DIRECTORY=" + filepath.Join(r.dir, "objects")}
	// Changes that the user has told git to overlook are compiled all the same.
	list, err := g.git(ctx, "ls-files", "-v", "-z").env(elsewhere...).output()
	if err != nil {
		return "", fail(err)
	}
	overlooked := make(map[string][]string) // by the option that ends it
	for file := range strings.SplitSeq(list, "\x00") {
		flag, path, _ := strings.Cut(file, " ")
		if flag == "h" || flag == "s" {
			overlooked["--no-assume-unchanged"] = append(overlooked["--no-assume-unchanged"], path)
		}
		// A sparse checkout has the other flag on files that are not there.
		if (flag == "S" || flag == "s") && exists(filepath.Join(g.dir, path)) {
			overlooked["--no-skip-worktree"] = append(overlooked["--no-skip-worktree"], path)
		}
	}
	for option, paths := range overlooked {
		_, err := g.git(ctx, "update-index", option, "-z", "--stdin").env(elsewhere...).input(strings.NewReader(strings.Join(paths, "\x00"))).output()
		if err != nil {
			return "", fail(err)
		}
	}
	if _, err := g.git(ctx, "add", "--update", "--", ":/").env(elsewhere...).output(); err != nil {
		return "", fail(err)
	}
	// What make takes from a tree goes by these names; a notes.txt or a core
	// file must not change the key. What the user's own rules exclude, make
	// takes all the same.
	list, err = g.git(ctx, untracked...).env(elsewhere...).output()
	if err != nil {
		return "", fail(err)
	}
	paths, err := r.flat(ctx, g.dir, "", list)
	if err != nil {
		return "", fail(err)
	}
	paths = slices.DeleteFunc(paths, func(path string) bool { return !isSource.MatchString(path) })
	submodules, inside, err := g.submodules(ctx, r, elsewhere)
	if err != nil {
		return "", fail(err)
	}
	paths = append(paths, inside...)
	if _, err := g.git(ctx, "update-index", "--add", "-z", "--stdin").env(elsewhere...).input(strings.NewReader(strings.Join(paths, "\x00"))).output(); err != nil {
		return "", fail(err)
	}
	out, err := g.git(ctx, "write-tree").env(elsewhere...).output()
	if err != nil {
		return "", fail(err)
	}
	tree := strings.TrimSpace(out)
	if err := g.requireContent(ctx, r, tree); err != nil {
		return "", fail(err)
	}
	g.tree = tree

	if head, err := g.ask(ctx, "rev-parse", "--quiet", "--verify", "HEAD"); err == nil {
		g.where = " at " + head[:12]
		out, err := r.git(ctx, "diff-tree", "-r", "--name-only", head, g.tree).output()
		if err != nil {
			return "", fail(err)
		}
		changed := slices.DeleteFunc(strings.Split(strings.TrimSpace(out), "\n"), func(path string) bool {
			return path == "" || slices.ContainsFunc(submodules, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
		})
		if n := len(changed); n != 0 {
			g.where += " with changes in " + contract.Count(n, "file")
			fmt.Fprintf(g.progress, "%s has changes that are not committed: they are built too:\n%s", g.dir, indent(strings.Join(changed, "\n"), 10))
		}
	}
	return "tree " + g.tree, nil
}

// submodules takes the submodules that are checked out from the index that the
// environment names, and returns them and the files in them, tracked or source:
// make takes such a directory for one like others.
func (g *gitTree) submodules(ctx context.Context, r repo, env []string) (dirs, files []string, err error) {
	list, err := g.git(ctx, "ls-files", "--stage", "-z").env(env...).output()
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.SplitSeq(list, "\x00") {
		meta, dir, _ := strings.Cut(line, "\t") // MODE SP ID SP STAGE TAB PATH
		if !strings.HasPrefix(meta, submodule+" ") {
			continue
		}
		if !exists(filepath.Join(g.dir, dir, ".git")) {
			fmt.Fprintf(g.progress, "the submodule %s is not checked out: it is not built (git submodule update --init gets it)\n", dir)
			continue
		}
		inside, err := r.flat(ctx, g.dir, "", dir+"/")
		if err != nil {
			return nil, nil, err
		}
		inside = slices.DeleteFunc(inside, func(path string) bool { return !isSource.MatchString(path) })
		dirs, files = append(dirs, dir), append(files, inside...)
	}
	if dirs == nil {
		return nil, nil, nil
	}
	if list, err = g.git(ctx, "ls-files", "--recurse-submodules", "-z").output(); err != nil {
		return nil, nil, err
	}
	for path := range strings.SplitSeq(list, "\x00") {
		below := func(dir string) bool { return strings.HasPrefix(path, dir+"/") }
		if fi, err := os.Lstat(filepath.Join(g.dir, path)); err == nil && !fi.IsDir() && slices.ContainsFunc(dirs, below) {
			files = append(files, path)
		}
	}
	_, err = g.git(ctx, "update-index", "--force-remove", "-z", "--stdin").env(env...).input(strings.NewReader(strings.Join(dirs, "\x00"))).output()
	return dirs, files, err
}

// requireContent makes sure that a partial clone has the content of all files
// of a tree. Our repository cannot fetch what it lacks, and fetching with the
// user's would write to it.
func (g *gitTree) requireContent(ctx context.Context, r repo, tree string) error {
	partial, err := g.setting(ctx, `^(extensions\.partialclone|remote\..*\.promisor)$`)
	if err != nil || !partial {
		return err
	}
	files, err := r.list(ctx, tree, func(entry) bool { return true })
	if err != nil {
		return err
	}
	missing, err := r.missing(ctx, files)
	if err != nil || len(missing) == 0 {
		return err
	}
	sparse, err := g.setting(ctx, `^core\.sparsecheckout$`)
	if err != nil {
		return err
	}
	get := "fetch --refetch"
	if sparse {
		get = "sparse-checkout disable"
	}
	return fmt.Errorf("is a partial clone and lacks the content of files, %d in all, as %s: get it with\n  git -C %q %s", len(missing), missing[0].path, g.dir, get)
}

// setting says whether the repository is configured with one of the names that
// match, and not to be without.
func (g *gitTree) setting(ctx context.Context, names string) (bool, error) {
	out, err := g.git(ctx, "config", "--get-regexp", names).output()
	var ce *commandError
	if errors.As(err, &ce) && ce.stderr == "" && ctx.Err() == nil { // no match
		return false, nil
	}
	for line := range strings.Lines(out) {
		if _, value, _ := strings.Cut(strings.TrimSpace(line), " "); value != "false" {
			return true, err
		}
	}
	return false, err
}

// base is in our repository already.
func (g *gitTree) base(context.Context, *tree) (string, error) { return g.tree, nil }

// pristine: our repository reads the user's objects, and lacks nothing.
func (g *gitTree) pristine(*tree) string { return "" }

// indent shows the first lines of text, each behind two spaces.
func indent(text string, most int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("and %d more", len(lines)-most))
	}
	return "  " + strings.Join(lines, "\n  ") + "\n"
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	fi, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fi.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
