package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/ringproof/ringproof/internal/host/child"
)

// cmd is a program to run in a clean environment and in a process group of
// its own, which ends with ctx and with this process.
type cmd struct {
	*exec.Cmd
	ctx   context.Context
	title string
}

// termGrace is how long a program may take to end after it was interrupted.
const termGrace = 5 * time.Second

// passedOn are the variables that every program is given. NIX_* are others.
var passedOn = map[string]bool{
	"PATH": true, "HOME": true, "TMPDIR": true, "USER": true, "LOGNAME": true,
	// gcc(1), "Environment variables affecting GCC"; pkg-config(1); ld.so(8).
	"CPATH": true, "C_INCLUDE_PATH": true, "LIBRARY_PATH": true, "COMPILER_PATH": true, "GCC_EXEC_PREFIX": true,
	"PKG_CONFIG_PATH": true, "LD_LIBRARY_PATH": true,
}

// command prepares a program; add to its environment with env.
//
// Of our own environment only PATH and the like are passed on, and what says
// where a compiler has its headers and libraries where that is not /usr:
// MAKEFLAGS of a make that runs us, GIT_DIR of a hook, ARCH or KCONFIG_* of a
// kernel developer's shell would each change what comes out.
func command(ctx context.Context, name string, args ...string) *cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = []string{"LC_ALL=C"}
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); passedOn[name] || strings.HasPrefix(name, "NIX_") {
			c.Env = append(c.Env, setting)
		}
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGINT) }
	c.WaitDelay = termGrace
	title := name
	if len(args) > 0 {
		title += " " + args[0]
	}
	return &cmd{c, ctx, title}
}

func (c *cmd) env(vars ...string) *cmd {
	c.Env = append(c.Env, vars...)
	return c
}

func (c *cmd) in(dir string) *cmd {
	c.Dir = dir
	return c
}

func (c *cmd) input(r io.Reader) *cmd {
	c.Stdin = r
	return c
}

// run waits for the program, and after a cancellation for its whole group.
func (c *cmd) run() error {
	// Not SIGKILL: make and git remove half-written files when they are
	// interrupted.
	err := child.Run(c.Cmd, syscall.SIGTERM, c.Cmd.Run)
	if c.ctx.Err() != nil && c.Process != nil {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // who ignored SIGINT
		return c.ctx.Err()
	}
	return err
}

// output returns what the program wrote to stdout. Its error carries what it
// wrote to stderr, as commandError.
func (c *cmd) output() (string, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.run(); err != nil {
		return stdout.String(), &commandError{c.title, strings.TrimSpace(stderr.String()), err}
	}
	return stdout.String(), nil
}

// commandError is a program that failed.
type commandError struct {
	title  string
	stderr string
	err    error
}

func (e *commandError) Error() string {
	if e.stderr == "" {
		return fmt.Sprintf("%s: %v", e.title, e.err)
	}
	return fmt.Sprintf("%s: %s", e.title, e.stderr)
}

func (e *commandError) Unwrap() error {
	if strings.Contains(e.stderr, "No space left on device") {
		return errors.Join(e.err, syscall.ENOSPC)
	}
	return e.err
}
