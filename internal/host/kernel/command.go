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

// command prepares a program; add to its environment with env.
//
// Of our own environment only PATH and the like are passed on: MAKEFLAGS of a
// make that runs us, GIT_DIR of a hook, ARCH or KCONFIG_* of a kernel
// developer's shell would each change what comes out.
func command(ctx context.Context, name string, args ...string) *cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "USER", "LOGNAME"} {
		if value, ok := os.LookupEnv(name); ok {
			c.Env = append(c.Env, name+"="+value)
		}
	}
	c.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true,
		// Not SIGKILL: make and git remove half-written files when they are
		// interrupted.
		Pdeathsig: syscall.SIGTERM,
	}
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
	err := c.Cmd.Run()
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
