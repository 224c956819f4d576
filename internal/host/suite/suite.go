// Package suite runs go test ./vmtests on a kernel, as anyone would.
package suite

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/meter"
	"github.com/ringproof/ringproof/internal/host/report"
)

// Config says what to run.
type Config struct {
	// Label names the run beside others, and Name its directory.
	Label, Name string
	Kernel      *kernel.Result
	Contract    contract.Contract
	// Args are further arguments of go test: -short, -run=...
	Args []string
	// Env is what is set for it beyond that: REPLAYS=2.
	Env []string
	// Progress is told how far the run is.
	Progress io.Writer
}

// Run returns what the run found out. The error says that it did not pass; the
// run is nil if there is nothing to show. The artifacts are in a new directory
// below artifacts/, in the working directory.
func Run(ctx context.Context, cfg Config) (*report.Run, error) {
	// Next to each other and in the order in which they were run.
	dir, err := filepath.Abs(filepath.Join("artifacts", time.Now().Format("2006-01-02T15-04-05.000")+"-"+cfg.Name))
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
		"CONTRACT="+string(cfg.Contract), "ARTIFACTS="+dir, "RINGPROOF_LABEL="+cfg.Label)
	cmd.Env = append(cmd.Env, cfg.Env...)
	events, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m := meter.New(cfg.Progress, "testing "+cfg.Label, "checks", 0)
	said := follow(events, m)
	err = cmd.Wait()
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

// follow counts the checks that are decided and shows which test runs. It
// returns what was printed other than by tests that passed.
func follow(events io.Reader, m *meter.Meter) string {
	var said strings.Builder
	var running []string // from the outermost to the innermost test
	booted := false
	m.Doing("go test compiles the tests")
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 16<<20) // a finding is one line
	for lines.Scan() {
		var e struct{ Action, Test, Output, Key string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch e.Action {
		case "output":
			said.WriteString(e.Output)
			continue
		case "attr":
			if slices.Contains(contract.Promises(), contract.Promise(e.Key)) {
				m.Add(1)
			}
			continue
		case "run":
			running = append(running, e.Test)
			booted = booted || strings.Contains(e.Test, "/") // the guest's word
		case "pass", "fail", "skip":
			running = slices.DeleteFunc(running, func(test string) bool { return test == e.Test })
			booted = true
		}
		switch {
		case len(running) == 0:
			m.Doing("between two tests")
		case !booted: // which the first test waits for
			m.Doing("building what the VM runs, and booting it")
		default:
			m.Doing(running[len(running)-1])
		}
	}
	return said.String()
}
