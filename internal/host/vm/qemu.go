package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ringproof/ringproof/internal/host/child"
	"golang.org/x/sys/unix"
)

// program is the QEMU that is used.
type program struct {
	path string
	args []string // of VMTEST_QEMU
	// Not every build has the machine microvm, or a seccomp filter: that of
	// RHEL has neither the one nor, under another name, a place in PATH.
	microvm, sandboxed bool
}

// sandbox keeps a guest that has taken over QEMU from doing what QEMU does not
// do: to run a program, to become another user, to change its priority.
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// findQEMU finds QEMU for guests of an architecture: what QEMU names, or
// VMTEST_QEMU with its arguments; else where distributions have it.
func findQEMU(p *platform) (program, error) {
	name, variable := os.Getenv("QEMU"), "QEMU"
	var args []string
	if words := strings.Fields(os.Getenv("VMTEST_QEMU")); name == "" && len(words) > 0 {
		name, args, variable = words[0], words[1:], "VMTEST_QEMU"
	}
	if name != "" {
		if strings.Contains(name, "/") && !filepath.IsAbs(name) {
			return program{}, fmt.Errorf("%s=%s: must be an absolute path, or a name in PATH", variable, name)
		}
		path, err := exec.LookPath(name)
		if err != nil {
			return program{}, fmt.Errorf("%s=%s: %w", variable, name, err)
		}
		return program{path: path, args: args}, nil
	}
	for _, name := range p.commands {
		if path, err := exec.LookPath(name); err == nil {
			return program{path: path}, nil
		}
	}
	return program{}, fmt.Errorf("none of %s is installed, and no VM can run without one of them\non Debian and Ubuntu: sudo apt-get install %s; if it is elsewhere, set QEMU", strings.Join(p.commands, ", "), p.pkg)
}

// MissingPackages lists the Debian packages that Start needs for guests of an
// architecture, as Go calls it, and that are not installed.
func MissingPackages(arch string) (missing []string) {
	p := platformOf(arch)
	if _, err := findQEMU(p); err != nil {
		return []string{p.pkg}
	}
	return nil
}

// identity changes when another QEMU is installed.
func (q program) identity() string {
	fi, err := os.Stat(q.path)
	if err != nil {
		return q.path
	}
	return fmt.Sprint(q.path, q.args, fi.Size(), fi.ModTime().UnixNano())
}

// openQEMU finds QEMU and what its build can do, which is remembered.
func openQEMU(ctx context.Context, p *platform) (program, error) {
	q, err := findQEMU(p)
	if err != nil {
		return q, err
	}
	where, err := newProbe("qemu", q.identity(), sandbox)
	if err != nil {
		return q, err
	}
	can, known := where.recall()
	if !known {
		if can, err = q.ask(ctx); err != nil {
			return q, err
		}
		if err := where.remember(can); err != nil {
			return q, err
		}
	}
	q.microvm, q.sandboxed = strings.Contains(can, "microvm"), strings.Contains(can, "sandbox")
	return q, nil
}

// askTime bounds each question to QEMU, which answers in a tenth of a second.
const askTime = 20 * time.Second

// say runs QEMU with arguments that make it end, and returns what it prints.
func (q program) say(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	c := exec.CommandContext(ctx, q.path, append(q.args[:len(q.args):len(q.args)], args...)...)
	c.Stdin = strings.NewReader("quit\n")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := child.Run(c, syscall.SIGKILL, c.Run)
	return out.String(), err
}

// AskQEMU runs the QEMU that x86-64 guests here run in with arguments that make it end, and
// returns what it prints.
func AskQEMU(ctx context.Context, args ...string) (string, error) {
	q, err := findQEMU(&platforms[0])
	if err != nil {
		return "", err
	}
	return q.say(ctx, args...)
}

func (q program) ask(ctx context.Context) (can string, err error) {
	machines, err := q.say(ctx, "-M", "help")
	if err != nil {
		return "", fmt.Errorf("%s -M help: %w: %s", q.path, err, strings.TrimSpace(machines))
	}
	if strings.Contains(machines, "\nmicrovm ") {
		can = "microvm"
	}
	if _, err := q.say(ctx, "-M", "none", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio", "-sandbox", sandbox); err == nil {
		can += " sandbox"
	}
	return can, ctx.Err()
}

// command is the beginning of the command line.
func (q program) command() []string {
	words := append([]string{q.path}, q.args...)
	if q.sandboxed {
		words = append(words, "-sandbox", sandbox)
	}
	return words
}

// become is the first argument with which this program, whichever it is that
// has this package in it, becomes QEMU; see bind.
const become = "ringproof-become-qemu"

func init() {
	if len(os.Args) > 3 && os.Args[1] == become {
		fmt.Fprintf(os.Stderr, "start %s: %v\n", os.Args[3], becomeQEMU(os.Args[2], os.Args[3:]))
		os.Exit(127)
	}
}

// becomeQEMU ties this process to its parent, and turns into QEMU. Until then,
// it is on the thread that the process began with, which the signal goes by.
func becomeQEMU(parent string, argv []string) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if fmt.Sprint(os.Getppid()) != parent {
		return errors.New("the process that started it has died")
	}
	// A ^C at the terminal is not for QEMU: it is ours to end it, and the
	// guest's last words are not lost.
	if _, err := unix.Setsid(); err != nil {
		return err
	}
	return unix.Exec(argv[0], argv, os.Environ())
}
