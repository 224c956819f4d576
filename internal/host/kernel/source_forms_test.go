package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// trees are the homes of a kernel tree: each makes one and returns the path
// that the user gives, and what of it is to be in the copy besides tinyKernel.
var trees = map[string]func(t *testing.T) (path string, also files){
	"home directory": func(t *testing.T) (string, files) {
		tinyKernel.write(t, filepath.Join(os.Getenv("HOME"), "linux"))
		return "~/linux", nil
	},
	"relative": func(t *testing.T) (string, files) {
		dir := sources["git"](t)
		t.Chdir(filepath.Join(dir, "drivers"))
		return "..", nil
	},
	"space and colon": func(t *testing.T) (string, files) {
		dir := filepath.Join(t.TempDir(), "net: next #1")
		if err := os.Rename(sources["git"](t), dir); err != nil {
			t.Fatal(err)
		}
		return dir, nil
	},
	"space and colon, unpacked": func(t *testing.T) (string, files) {
		dir := filepath.Join(t.TempDir(), "net: next \"1\"")
		tinyKernel.write(t, dir)
		return dir, nil
	},
	"worktree": func(t *testing.T) (string, files) {
		dir := filepath.Join(t.TempDir(), "linked")
		userGit(t, sources["git"](t), "worktree", "add", "--quiet", "--detach", dir)
		return dir, nil
	},
	"submodule": func(t *testing.T) (string, files) {
		top := t.TempDir()
		userGit(t, top, "init", "--quiet")
		userGit(t, top, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", sources["git"](t), "linux")
		return filepath.Join(top, "linux"), nil
	},
	"with submodules": withSubmodules,
	"partial clone that has all": func(t *testing.T) (string, files) {
		from := sources["git"](t)
		userGit(t, from, "config", "uploadpack.allowFilter", "true")
		dir := t.TempDir()
		userGit(t, dir, "clone", "--quiet", "--filter=blob:none", "file://"+from, ".")
		return dir, nil
	},
	"submodule of a worktree": func(t *testing.T) (string, files) {
		top, linked := t.TempDir(), filepath.Join(t.TempDir(), "linked")
		userGit(t, top, "init", "--quiet")
		userGit(t, top, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", sources["git"](t), "linux")
		userGit(t, top, "commit", "--quiet", "--message=x")
		userGit(t, top, "worktree", "add", "--quiet", "--detach", linked)
		userGit(t, linked, "-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init")
		return filepath.Join(linked, "linux"), nil
	},
	"built in, git": func(t *testing.T) (string, files) {
		dir := sources["git"](t)
		files{".gitignore": "*.o\n/*.log\n.*\n/include/config/\n!.gitignore\n"}.write(t, dir)
		userGit(t, dir, "commit", "--quiet", "--all", "--message=ignore")
		files{".config": "CONFIG_X=y\n", "drivers/net/tun.o": "object", "include/config/auto.conf": ""}.write(t, dir)
		return dir, files{".gitignore": "*.o\n/*.log\n.*\n/include/config/\n!.gitignore\n"}
	},
	"through a link": func(t *testing.T) (string, files) {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(sources["git"](t), link); err != nil {
			t.Fatal(err)
		}
		return link, nil
	},
	"shared clone": func(t *testing.T) (string, files) {
		dir := t.TempDir()
		userGit(t, dir, "clone", "--quiet", "--shared", sources["git"](t), ".")
		return dir, nil
	},
	"directory of a repository": func(t *testing.T) (string, files) {
		top := t.TempDir()
		tinyKernel.write(t, filepath.Join(top, "kernel"))
		userGit(t, top, "init", "--quiet")
		userGit(t, top, "add", "--all")
		userGit(t, top, "commit", "--quiet", "--message=all")
		return filepath.Join(top, "kernel"), nil
	},
	"sparse checkout": func(t *testing.T) (string, files) {
		dir := sources["git"](t)
		userGit(t, dir, "sparse-checkout", "set", "--cone", "--sparse-index", "arch", "drivers")
		return dir, nil
	},
	"split index": func(t *testing.T) (string, files) {
		dir := sources["git"](t)
		userGit(t, dir, "update-index", "--split-index")
		return dir, nil
	},
	"SHA-256": func(t *testing.T) (string, files) {
		dir := sources["unpacked"](t)
		userGit(t, dir, "init", "--quiet", "--object-format=sha256")
		userGit(t, dir, "add", "--all")
		userGit(t, dir, "commit", "--quiet", "--message=base")
		return dir, nil
	},
	"changes behind a sparse checkout's flag": func(t *testing.T) (string, files) {
		dir := sources["git"](t)
		userGit(t, dir, "update-index", "--skip-worktree", "include/ring.h")
		userGit(t, dir, "update-index", "--skip-worktree", "Kbuild")
		userGit(t, dir, "update-index", "--assume-unchanged", "Kbuild")
		also := files{"include/ring.h": "mine\n", "Kbuild": "mine\n"}
		also.write(t, dir)
		return dir, also
	},
	"shallow clone": func(t *testing.T) (string, files) {
		dir := t.TempDir()
		userGit(t, dir, "clone", "--quiet", "--depth=1", "file://"+sources["git"](t), ".")
		return dir, nil
	},
	"overlooked changes": func(t *testing.T) (string, files) {
		dir := sources["git"](t)
		also := files{tap: edit(tap, 3, "changed"), "include/added.h": "added\n"}
		userGit(t, dir, "update-index", "--assume-unchanged", tap)
		also.write(t, dir)
		userGit(t, dir, "add", "--intent-to-add", "include/added.h")
		return dir, also
	},
	"repository in it":            func(t *testing.T) (string, files) { return withRepository(t, "unpacked") },
	"repository in it, untracked": func(t *testing.T) (string, files) { return withRepository(t, "git") },
	"the user's ignore rules, unpacked": func(t *testing.T) (string, files) {
		files{".config/git/ignore": "core\nlib/\n*.c\n", ".config/git/attributes": "* text eol=crlf\n"}.write(t, os.Getenv("HOME"))
		dir := sources["unpacked"](t)
		also := files{"net/core/dev.c": "dev\n", "lib/x.c": "x\n"}
		also.write(t, dir)
		return dir, also
	},
	"the user's ignore rules, git": func(t *testing.T) (string, files) {
		files{".config/git/ignore": "core\nlib/\n"}.write(t, os.Getenv("HOME"))
		dir := sources["git"](t)
		also := files{"net/core/dev.c": "dev\n", "lib/x.c": "x\n"}
		also.write(t, dir)
		files{"info/exclude": "x.c\n"}.write(t, filepath.Join(dir, ".git"))
		return dir, also
	},
	"built in": func(t *testing.T) (string, files) {
		dir := sources["unpacked"](t)
		files{".config": "CONFIG_X=y\n", "drivers/net/tun.o": "object", "include/config/auto.conf": ""}.write(t, dir)
		files{".gitignore": "*.o\n/*.log\n.*\n/include/config/\n!.gitignore\n"}.write(t, dir)
		return dir, files{".gitignore": "*.o\n/*.log\n.*\n/include/config/\n!.gitignore\n"}
	},
	"of another user": func(t *testing.T) (string, files) {
		dir := sources["git"](t)
		giveAway(t, dir)
		return dir, nil
	},
	"of another user, with submodules": func(t *testing.T) (string, files) {
		dir, also := withSubmodules(t)
		giveAway(t, dir)
		return dir, also
	},
}

// withSubmodules is a tree with a submodule that has one, and is edited, and with
// one that is not checked out.
func withSubmodules(t *testing.T) (string, files) {
	driver, inner := t.TempDir(), t.TempDir()
	also := files{"drivers/ext/ext.c": "ext\n", "drivers/ext/gen.sh": "x\n", "drivers/ext/sub/deep.c": "deep\n"}
	files{"deep.c": "deep\n"}.write(t, inner)
	files{"ext.c": "old\n", "gen.sh": "x\n", "gone.sh": "x\n"}.write(t, driver)
	for _, dir := range []string{inner, driver} {
		userGit(t, dir, "init", "--quiet")
		if dir == driver {
			userGit(t, dir, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner, "sub")
		}
		userGit(t, dir, "add", "--all")
		userGit(t, dir, "commit", "--quiet", "--message=x")
	}
	top := sources["git"](t)
	for _, path := range []string{"drivers/ext", "drivers/absent"} {
		userGit(t, top, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", driver, path)
	}
	userGit(t, top, "commit", "--quiet", "--all", "--message=submodules")
	userGit(t, top, "-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", "--recursive", "drivers/ext")
	userGit(t, top, "submodule", "--quiet", "deinit", "--force", "drivers/absent")
	if err := os.Remove(filepath.Join(top, "drivers/ext/gone.sh")); err != nil {
		t.Fatal(err)
	}
	files{"drivers/ext/ext.c": "ext\n", "drivers/ext/ext.o": "object"}.write(t, top)
	return top, also
}

func giveAway(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a tree away")
	}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, 65534, 65534)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// withRepository is a tree with another repository in it, as of a driver that
// is developed apart.
func withRepository(t *testing.T, kind string) (string, files) {
	dir := sources[kind](t)
	also := files{"drivers/ext/ext.c": "ext\n", "drivers/ext/sub/deep.c": "deep\n"}
	also.write(t, dir)
	for _, repo := range []string{"drivers/ext/sub", "drivers/ext"} {
		userGit(t, filepath.Join(dir, repo), "init", "--quiet")
		userGit(t, filepath.Join(dir, repo), "add", "*.c")
		userGit(t, filepath.Join(dir, repo), "commit", "--quiet", "--message=x")
	}
	if err := os.Mkdir(filepath.Join(dir, "drivers/ext/none"), 0o755); err != nil {
		t.Fatal(err)
	}
	userGit(t, filepath.Join(dir, "drivers/ext/none"), "init", "--quiet")
	return dir, also
}

func TestTreeOfEveryHomeIsBuiltWhole(t *testing.T) {
	for name, home := range trees {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			path, also := home(t)
			series := place(t, files{"m": first})
			before := snapshot(t, expandHome(path))
			dir := mustPrepare(t, path, series)
			for path, content := range tinyKernel {
				if path == tun {
					content = edit(tun, 8, "first")
				}
				if other, ok := also[path]; ok {
					content = other
				}
				if got := contentOf(t, filepath.Join(dir, path)); got != content {
					t.Errorf("%s is\n%s", path, got)
				}
			}
			for path, content := range also {
				if got := contentOf(t, filepath.Join(dir, path)); got != content {
					t.Errorf("%s is\n%s", path, got)
				}
			}
			if exists(filepath.Join(dir, "drivers/net/tun.o")) || exists(filepath.Join(dir, ".config")) || exists(filepath.Join(dir, "drivers/ext/ext.o")) {
				t.Error("the copy has products of a build")
			}
			for path, was := range snapshot(t, expandHome(path)) {
				if before[path] != was {
					t.Errorf("%s was written", path)
				}
			}
		})
	}
}

func TestWorktreeWithoutItsRepository(t *testing.T) {
	isolate(t)
	from, dir := sources["git"](t), filepath.Join(t.TempDir(), "linked")
	userGit(t, from, "worktree", "add", "--quiet", "--detach", dir)
	if err := os.RemoveAll(filepath.Join(from, ".git")); err != nil {
		t.Fatal(err)
	}
	if _, err := prepared(t, dir); err == nil || !strings.Contains(err.Error(), from) || !strings.Contains(err.Error(), "container") {
		t.Errorf("%v does not name %s", err, from)
	}
}

// TestPartialCloneNamesWhatItLacks: nothing is fetched behind the user's back,
// and the message has the command that does.
func TestPartialCloneNamesWhatItLacks(t *testing.T) {
	isolate(t)
	from := sources["git"](t)
	userGit(t, from, "config", "uploadpack.allowFilter", "true")
	dir := filepath.Join(t.TempDir(), "partial")
	userGit(t, from, "clone", "--quiet", "--filter=blob:none", "--sparse", "file://"+from, dir)
	userGit(t, dir, "sparse-checkout", "set", "arch", "drivers")
	_, err := prepared(t, dir)
	if err == nil || !strings.Contains(err.Error(), "include/ring.h") || !strings.Contains(err.Error(), "sparse-checkout disable") {
		t.Fatalf("%v does not say what is missing, and how to get it", err)
	}
	userGit(t, dir, "sparse-checkout", "disable")
	mustPrepare(t, dir)
	mustPrepare(t, dir, place(t, files{"m": first}))
	if left, _ := filepath.Glob(filepath.Join(os.Getenv(cache.Env), "tmp/*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
