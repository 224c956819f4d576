package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// confinement is what a build may see and write. A kernel's Makefiles run
// whatever they say, and a series changes them: so make runs in namespaces of
// its own, without a network, with all files read-only but those in Write, and
// without the directories in Hide but for what is in Show.
//
// All that it starts ends with it: it is the first process of a PID namespace.
type confinement struct {
	Write []string
	Show  []string
	Hide  []hidden
}

// hidden is a directory in whose place there is an empty one.
type hidden struct {
	Dir   string
	Write bool
}

// confine is the first argument with which this program, whichever it is that
// has this package in it, confines itself and runs another.
const confine = "ringproof-confine"

func init() {
	if len(os.Args) > 3 && os.Args[1] == confine {
		status, err := confined(os.Args[2], os.Args[3:])
		if err != nil {
			fmt.Fprintf(os.Stderr, "confine %s: %v\n", os.Args[3], err)
		}
		os.Exit(status)
	}
}

// newConfinement is the one for a build that writes to these directories and
// reads the tree. What is on the way to programs in PATH stays to be seen.
func newConfinement(tree string, write ...string) confinement {
	c := confinement{Write: write, Show: []string{tree}}
	hide := func(dir string, write bool) {
		if dir, err := filepath.EvalSymlinks(dir); err == nil && dir != "/" {
			c.Hide = append(c.Hide, hidden{dir, write})
		}
	}
	hide("/tmp", true)
	hide("/var/tmp", true)
	hide("/dev/shm", true)
	hide("/run", false) // sockets, which can be used where files are read-only
	home := os.Getenv("HOME")
	if home != "" {
		hide(home, false)
	}
	var dirs []string
	for _, variable := range []string{"PATH", "CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "LD_LIBRARY_PATH"} {
		dirs = append(dirs, filepath.SplitList(os.Getenv(variable))...)
	}
	for _, tool := range tools {
		if program := strings.Fields(chosen(tool.variable))[0]; filepath.IsAbs(program) {
			dirs = append(dirs, filepath.Dir(program))
		}
	}
	for _, dir := range dirs {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil || !filepath.IsAbs(dir) {
			continue
		}
		// A compiler has its parts beside its bin.
		if above := filepath.Dir(dir); filepath.Base(dir) == "bin" && above != home && filepath.Base(above) != ".local" {
			dir = above
		}
		below := func(h hidden) bool { return strings.HasPrefix(dir, h.Dir+"/") }
		if slices.ContainsFunc(c.Hide, below) && !slices.Contains(c.Show, dir) {
			c.Show = append(c.Show, dir)
		}
	}
	return c
}

// confine decides on the confinement of each make, and says if there is none.
func (o *objects) confine(ctx context.Context, progress io.Writer) error {
	c := newConfinement(o.tree.src, o.dir)
	user, err := tryConfinement(ctx, c)
	var none *errUnconfined
	if errors.As(err, &none) {
		fmt.Fprintln(progress, err)
		return nil
	}
	o.confinement, o.userNamespace = &c, user
	return err
}

// apply makes a command run in the confinement. user says whether it has a user
// namespace of its own, which only root can do without.
func (c confinement) apply(to *cmd, user bool) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	to.Args = append([]string{"/proc/self/exe", confine, string(text)}, append([]string{to.Path}, to.Args[1:]...)...)
	to.Path = "/proc/self/exe"
	to.env("TMPDIR=/tmp")
	to.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC
	if user {
		to.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		to.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		to.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		to.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
	}
	return nil
}

// errUnconfined says why this host does not allow a confinement.
type errUnconfined struct{ err error }

func (e *errUnconfined) Error() string {
	return fmt.Sprintf("this host allows no namespaces (%v): the Makefiles of the source and the series run with all that you may do", e.err)
}

// tryConfinement finds out what this host allows, by running a program that does
// nothing: with a user namespace, or without. The error is *errUnconfined.
func tryConfinement(ctx context.Context, c confinement) (user bool, err error) {
	for _, user := range []bool{true, false} {
		probe := command(ctx, "true")
		if err := c.apply(probe, user); err != nil {
			return false, err
		}
		_, tried := probe.output()
		if tried == nil {
			return user, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		err = errors.Join(err, tried)
		if os.Geteuid() != 0 {
			break
		}
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return false, &errUnconfined{errors.New(first)}
}

// confined is the first process in the namespaces: it does what c says, gives up
// all capabilities, and runs the program. It stays, because signals that would
// end another process do not end the first one.
func confined(text string, argv []string) (status int, err error) {
	var c confinement
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return 127, err
	}
	if err := c.mount(); err != nil {
		return 127, err
	}
	if err := giveUp(); err != nil {
		return 127, fmt.Errorf("give up capabilities: %w", err)
	}
	// The program gets the signals that its group is sent; what is sent to
	// this one alone is at its parent's death.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	program := exec.Command(argv[0], argv[1:]...)
	program.Stdin, program.Stdout, program.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := program.Start(); err != nil {
		return 127, err
	}
	go func() {
		for s := range signals {
			if s == unix.SIGTERM {
				program.Process.Signal(s)
			}
		}
	}()
	err = program.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	}
	return 126, err
}

// mount changes what is to be seen and to be written.
func (c confinement) mount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("detach the mounts: %w", err)
	}
	// What is kept is taken before anything is put on top of it.
	kept := make(map[string]int)
	for _, dir := range append(slices.Clone(c.Show), c.Write...) {
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fmt.Errorf("keep %s: %w", dir, err)
		}
		kept[dir] = fd
	}
	for _, h := range c.Hide {
		// One below another, which is hidden already, is made anew.
		if err := os.MkdirAll(h.Dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("ringproof", h.Dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("hide %s: %w", h.Dir, err)
		}
	}
	// The new ones are writable until all that is kept has its place.
	for _, dirs := range [][]string{c.Show, c.Write} {
		for _, dir := range dirs {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := unix.MoveMount(kept[dir], "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
				return fmt.Errorf("keep %s: %w", dir, err)
			}
		}
	}
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &readOnly); err != nil {
		return fmt.Errorf("make all files read-only: %w", err)
	}
	writable := slices.Clone(c.Write)
	for _, h := range c.Hide {
		if h.Write {
			writable = append(writable, h.Dir)
		}
	}
	for _, dir := range writable {
		if err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("let %s be written: %w", dir, err)
		}
	}
	// A container may not allow it; what the old one shows of others is not
	// theirs to be read from another user namespace.
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return nil
}

// giveUp gives up all capabilities for good, so that no mount can be undone. The
// threads of this process that exist already have no part in the program.
func giveUp() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	for capability := uintptr(0); capability < 64; capability++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
}
