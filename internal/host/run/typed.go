package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// typedIn returns the directories that a relative path in the environment may
// be relative to, the likeliest first: that of the shell in which the command
// was typed, that of the go command, which -C changes, the module's root and
// the working directory. The go command runs a test in the test's own directory
// and sets PWD to it, so only its parent tells the first two
// (proc(5): environ is what a process was started with).
func typedIn(module string) []string {
	parent := fmt.Sprintf("/proc/%d", os.Getppid())
	var dirs []string
	add := func(dir string) {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if environ, err := os.ReadFile(filepath.Join(parent, "environ")); err == nil {
		for variable := range strings.SplitSeq(string(environ), "\x00") {
			if pwd, ok := strings.CutPrefix(variable, "PWD="); ok {
				add(pwd)
			}
		}
	}
	if cwd, err := os.Readlink(filepath.Join(parent, "cwd")); err == nil {
		add(cwd)
	}
	add(module)
	if cwd, err := os.Getwd(); err == nil {
		add(cwd)
	}
	return dirs
}

// locate makes the path that is a variable's value absolute: it is in the first
// of dirs in which something of that name is.
func locate(variable, path string, dirs []string) (string, error) {
	if path == "" || filepath.IsAbs(path) {
		return path, nil
	}
	for _, dir := range dirs {
		at := filepath.Join(dir, path)
		if _, err := os.Stat(at); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return at, nil
		}
	}
	return "", fmt.Errorf("%s=%s: there is no such file in %s, where the command was typed, nor in %s; give an absolute path",
		variable, path, dirs[0], strings.Join(dirs[1:], ", "))
}

// locateAll makes all paths of the configuration absolute. The directory of
// artifacts, which need not be there yet, is where the command was typed.
func (c *Config) locateAll() error {
	dirs := typedIn(c.Module)
	for _, given := range []struct {
		variable string
		path     *string
	}{{"KERNEL", &c.Kernel}, {"MODULES", &c.Modules}, {"VMLINUX", &c.Vmlinux}, {"KNOWN", &c.Known}} {
		at, err := locate(given.variable, *given.path, dirs)
		if err != nil {
			return err
		}
		*given.path = at
	}
	if c.Dir != "" && !filepath.IsAbs(c.Dir) {
		c.Dir = filepath.Join(dirs[0], c.Dir)
	}
	return nil
}
