package kernel

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// objects is a build directory (O=) of a tree, for one configuration.
type objects struct {
	tree *tree
	dir  string
	log  string // of the last build
	// confinement of each make; nil if the host does not allow any.
	confinement   *confinement
	userNamespace bool
	about         string // the names of its fragments
	values        map[string]string
	lacks         []string
}

func (o *objects) config() string { return filepath.Join(o.dir, ".config") }

// unfinished is there while make runs.
func (o *objects) unfinished() string { return o.dir + ".unfinished" }

// open makes the directory, and repairs one in which make was killed with no
// chance to remove what it had half written.
func (o *objects) open() error {
	if !exists(o.dir) {
		if err := requireRoom(o.tree.dir, objectRoom); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(o.dir, 0o777); err != nil {
		return fmt.Errorf("make a build directory: %w", diskFull(err, o.tree.dir))
	}
	mark, err := os.Stat(o.unfinished())
	if err != nil {
		return nil
	}
	if err := o.repair(mark.ModTime()); err != nil {
		return fmt.Errorf("repair the build directory %s, where a build was killed: %w", o.dir, err)
	}
	return os.Remove(o.unfinished())
}

// lastWrites is how long before the last write of a killed make another may
// have been cut short.
const lastWrites = 5 * time.Second

// repair removes what a make that began at start and was killed may have left
// half written. Kbuild records the command of a target in .TARGET.cmd once it
// has succeeded (scripts/Kbuild.include: if_changed), so a target that is
// newer than its record is not to be trusted; nor is any file that was written
// at the very end, a record among them.
func (o *objects) repair(start time.Time) error {
	written := make(map[string]time.Time)
	var last time.Time
	err := filepath.WalkDir(o.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		written[path] = fi.ModTime()
		if fi.ModTime().After(last) {
			last = fi.ModTime()
		}
		return nil
	})
	if err != nil {
		return err
	}
	for path, at := range written {
		if at.Before(start) {
			continue
		}
		record, ok := written[filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".cmd")]
		if ok && record.Before(at) || at.After(last.Add(-lastWrites)) {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// command prepares a make in the tree, which writes to the build directory and
// to the directories in also.
func (o *objects) command(ctx context.Context, also []string, args ...string) (*cmd, error) {
	args = append(append(args, chosenArgs()...), "--no-print-directory", "-C", o.tree.src, "O="+o.dir, "ARCH="+targetArch().arch)
	c := command(ctx, "make", args...).env(chosenEnv()...).env(
		// What the compile-time strings of a kernel show; fixed, so that
		// the same content gives the same kernel.
		"KBUILD_BUILD_USER=ringproof", "KBUILD_BUILD_HOST=ringproof",
		"KBUILD_BUILD_TIMESTAMP="+time.Unix(0, 0).UTC().Format(time.UnixDate),
		"LOCALVERSION=",    // or setlocalversion looks for a git tree around
		"CCACHE_DISABLE=1", // one that has the compiler's name
	)
	// Whoever of make's children outlives us holds the tree's lock: the next
	// run waits for it.
	c.ExtraFiles = []*os.File{o.tree.lock.File()}
	if o.confinement == nil {
		return c, nil
	}
	box := *o.confinement
	box.Write = append(slices.Clone(box.Write), also...)
	return c, box.apply(c, o.userNamespace)
}

// modular says whether anything is built as a module.
func (o *objects) modular() bool {
	for _, value := range o.values {
		if value == "m" {
			return true
		}
	}
	return false
}

// release reads what uname -r will say.
func (o *objects) release() (string, error) {
	text, err := os.ReadFile(filepath.Join(o.dir, "include/config/kernel.release"))
	return strings.TrimSpace(string(text)), err
}
