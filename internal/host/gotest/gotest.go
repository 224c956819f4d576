// Package gotest runs go test ./vmtests on a kernel, as a user would.
package gotest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/child"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/meter"
	"github.com/ringproof/ringproof/internal/host/report"
)

// Config says what to run.
type Config struct {
	// Label names the run beside others, and Name its directory.
	Label, Name string
	Kernel      *kernel.Result
	// Driver under test; "" is the one that the environment names.
	Driver   string
	Contract contract.Contract
	// Args are further arguments of go test: -short, -run=...
	Args []string
	// Env is what is set for it beyond that: REPLAYS=2.
	Env []string
	// Shard is the part of the tests to run.
	Shard contract.Shard
	// Dir is the directory of the artifacts; "" is a new one below artifacts/, in
	// the working directory, called by the time and Name.
	Dir string
	// Progress is told how far the run is.
	Progress io.Writer
}

// Run returns what the run found out. The error says that it did not pass; the
// run is nil if there is nothing to show.
func Run(ctx context.Context, cfg Config) (*report.Run, error) {
	dir := cfg.Dir
	if dir == "" { // next to each other and in the order in which they were run
		dir = filepath.Join("artifacts", time.Now().Format("2006-01-02T15-04-05.000")+"-"+cfg.Name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	args := append([]string{"test", "-json", "-count=1", "-timeout=30m", "./vmtests"}, cfg.Args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	// go test passes ^C on to the tests, which end their VMs and write down
	// what they have so far.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Env = append(os.Environ(),
		"KERNEL="+cfg.Kernel.Image, "VMLINUX="+cfg.Kernel.Vmlinux, "MODULES="+cfg.Kernel.Modules,
		"CONTRACT="+string(cfg.Contract), "SHARD="+cfg.Shard.String(), "ARTIFACTS="+dir, "RINGPROOF_LABEL="+cfg.Label)
	if cfg.Driver != "" {
		cmd.Env = append(cmd.Env, "DRIVER="+cfg.Driver)
	}
	cmd.Env = append(cmd.Env, cfg.Env...)
	events, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	m := meter.New(cfg.Progress, "testing "+cfg.Label, "checks", 0)
	f := follower{meter: m, expect: shardOf(expect(cfg.Args), cfg.Shard)}
	err = child.Run(cmd, syscall.SIGINT, func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		f.follow(events)
		return cmd.Wait()
	})
	said := f.said.String()
	m.End(err == nil)
	run, readErr := report.Read(dir)
	if err == nil && readErr != nil && strings.Contains(said, "no tests to run") {
		return nil, fmt.Errorf("no test is called that: go %s", strings.Join(args, " "))
	}
	if readErr != nil {
		return nil, fmt.Errorf("go %s: %w\n%s%s", strings.Join(args, " "), errors.Join(err, readErr), said, complaints.String())
	}
	return run, err
}
