package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// source is where a kernel's files come from.
type source interface {
	// name is unique among sources, and fit for a directory.
	name() string
	// title is how the user knows it.
	title() string
	// identity names its content.
	identity(ctx context.Context) (string, error)
	// repo is the repository for its trees.
	repo(ctx context.Context) (repo, error)
	// base returns the tree of its content. The first time, it may bring t.src
	// and t.index into being; otherwise it leaves them alone.
	base(ctx context.Context, t *tree) (string, error)
	// pristine is the directory where a file is that the repository lacks; ""
	// if it lacks none.
	pristine(t *tree) string
}

// openSource finds out what kind of source path is. Unless fetch is set, one that
// would have to be downloaded is errNotFetched.
func openSource(ctx context.Context, path string, fetch bool, progress io.Writer) (source, error) {
	if path == "" {
		return openDefault(ctx, fetch, progress)
	}
	if strings.HasPrefix(path, debianPrefix) {
		r, err := parseRequest(path)
		if err != nil {
			return nil, err
		}
		return openDebian(ctx, r, fetch, progress)
	}
	if looksRemote.MatchString(path) {
		return openRemote(ctx, path, fetch, progress)
	}
	dir, err := filepath.Abs(expandHome(path))
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("kernel source %s: there is no such directory or file", path)
	}
	if err != nil {
		return nil, fmt.Errorf("kernel source %s: %w", path, err)
	}
	if fi, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("kernel source %s: %w", path, err)
	} else if !fi.IsDir() {
		if !archiveName.MatchString(dir) {
			return nil, fmt.Errorf("kernel source %s: neither a directory nor an archive (.tar, .tar.xz, .tar.gz, .tar.zst or .tar.bz2)", path)
		}
		return openArchive(dir, path, progress)
	}
	if err := checkTop(dir, path); err != nil {
		return nil, err
	}
	root, err := cache.Root()
	if err != nil {
		return nil, err
	}
	if root == dir || strings.HasPrefix(root, dir+"/") {
		return nil, fmt.Errorf("kernel source %s: the cache %s must not be inside it: set %s to another directory", path, root, cache.Env)
	}
	if exists(filepath.Join(dir, ".git")) {
		return openGitTree(ctx, dir, progress)
	}
	return openUnpacked(dir)
}

// checkTop fails if dir is not the top of a kernel tree. path is the source that
// it comes from.
func checkTop(dir, path string) error {
	for _, file := range []string{"Makefile", "Kbuild", "arch/" + targetArch().kconfig + "/Kconfig"} {
		if !exists(filepath.Join(dir, file)) {
			return fmt.Errorf("kernel source %s: not the top of a kernel tree: it has no %s", path, file)
		}
	}
	return nil
}

// expandHome replaces ~ and ~user at the start of a path, which a shell may
// leave there: dash and zsh do in KSRC=~/linux as an argument of make.
func expandHome(path string) string {
	name, rest, _ := strings.Cut(path, "/")
	name, ok := strings.CutPrefix(name, "~")
	if !ok || exists(path) {
		return path
	}
	home, err := os.UserHomeDir()
	if name != "" {
		var u *user.User
		if u, err = user.Lookup(name); err == nil {
			home = u.HomeDir
		}
	}
	if err != nil {
		return path
	}
	return filepath.Join(home, rest)
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// sourceName makes a name of a path and what tells it from others with the
// same last element.
func sourceName(path, unique string) string {
	sum := sha256.Sum256([]byte(unique))
	return unfit.ReplaceAllString(filepath.Base(path), "_") + "-" + hex.EncodeToString(sum[:])[:8]
}
