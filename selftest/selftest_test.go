// Package selftest tests the harness itself, through go test ./vmtests, as a user runs
// it. A kernel with a planted bug must fail and no other may. Every fault must get a
// clear error, and results must not be lost. Nothing may be left behind.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
	hostrun "github.com/ringproof/ringproof/internal/host/run"
)

// withoutReattach leaves out where patches/designs/lossless stalls for good.
const withoutReattach = "-skip=^TestNoStall$/^detach$"

// A harness is one use of go test ./vmtests.
type harness struct {
	t   testing.TB
	cmd *exec.Cmd
	out *output
	// dir is where the artifacts go.
	dir string
}

// output collects what the harness prints, for a test to look at meanwhile.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs go test with these flags on ./vmtests. env is on top of this
// process' own environment, of which the harness' variables are not passed on.
func start(t testing.TB, env []string, flags ...string) *harness {
	t.Helper()
	return startBy(t, nil, env, flags...)
}

// startBy is start by way of another program, which is given the command.
func startBy(t testing.TB, program, env []string, flags ...string) *harness {
	t.Helper()
	h := &harness{t: t, out: new(output), dir: filepath.Join(t.TempDir(), "artifacts")}
	for _, v := range env {
		if dir, ok := strings.CutPrefix(v, "ARTIFACTS="); ok {
			h.dir = dir
		}
	}
	command := slices.Concat(program, []string{"go", "test"}, flags, []string{"./vmtests"})
	h.cmd = exec.Command(command[0], command[1:]...)
	h.cmd.Dir = ".."
	h.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(hostrun.Variables(), name)
	})
	h.cmd.Env = append(h.cmd.Env, "ARTIFACTS="+h.dir)
	h.cmd.Env = append(h.cmd.Env, env...)
	h.cmd.Stdout, h.cmd.Stderr = h.out, h.out
	// A process group of its own, as a shell gives it, so that it can be sent
	// what ^C sends.
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if h.cmd.ProcessState == nil {
			_ = syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL)
			_ = h.cmd.Wait()
		}
	})
	return h
}

// wait returns the exit status, once the harness has ended.
func (h *harness) wait() int {
	h.t.Helper()
	err := h.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return h.cmd.ProcessState.ExitCode()
}

// run starts the harness and waits for it.
func run(t *testing.T, env []string, flags ...string) (h *harness, code int) {
	t.Helper()
	h = start(t, env, flags...)
	return h, h.wait()
}

// verdict reads the artifacts.
func (h *harness) verdict() *report.Run {
	h.t.Helper()
	r, err := report.Read(h.dir)
	if err != nil {
		h.t.Fatalf("%v\n%s", err, h.out)
	}
	return r
}

// forms fails the test unless the run has left each form of its report, as
// ringproof report makes it of the artifacts.
func (h *harness) forms() {
	h.t.Helper()
	r := h.verdict()
	for form, name := range map[string]string{
		"text": "verdict.txt", "json": "verdict.json", "html": "verdict.html", "markdown": "verdict.md",
		"mail": "verdict.mail", "ktap": "verdict.ktap", "junit": "verdict.xml",
	} {
		left, err := os.ReadFile(filepath.Join(h.dir, name))
		if err != nil {
			h.t.Error(err)
			continue
		}
		if again, err := r.Format(form); err != nil || string(again) != string(left) {
			h.t.Errorf("%s is not what is made of the artifacts: %v\n%s\n%s", name, err, left, again)
		}
	}
}

// says fails the test unless the harness printed all of these.
func (h *harness) says(texts ...string) {
	h.t.Helper()
	for _, text := range texts {
		if !strings.Contains(h.out.String(), text) {
			h.t.Errorf("the harness does not say %q:\n%s", text, h.out)
		}
	}
}

// until waits until the harness has written so many events that one of them
// contains text.
func (h *harness) until(text string) {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		events, err := os.ReadFile(filepath.Join(h.dir, "events.jsonl"))
		if err == nil && strings.Contains(string(events), text) {
			return
		}
	}
	h.t.Fatalf("no event says %q:\n%s", text, h.out)
}

// qemus returns the QEMU processes that the harness started.
func (h *harness) qemus() []int { return h.processes("qemu-system") }

// processes returns those of the harness with that in their command line.
func (h *harness) processes(named string) (pids []int) {
	h.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, path := range all {
		words, err := os.ReadFile(path)
		// Its image or its kernel's arguments do not tell two runs apart, but
		// the environment that it inherited does.
		if err != nil || !strings.Contains(string(words), named) {
			continue
		}
		env, err := os.ReadFile(filepath.Join(filepath.Dir(path), "environ"))
		if err != nil || !strings.Contains(string(env), "ARTIFACTS="+h.dir) {
			continue
		}
		var pid int
		fmt.Sscan(filepath.Base(filepath.Dir(path)), &pid)
		pids = append(pids, pid)
	}
	return pids
}

// gone fails the test if a QEMU of the harness is still there after a second.
func (h *harness) gone() {
	h.t.Helper()
	for deadline := time.Now().Add(time.Second); len(h.qemus()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Errorf("QEMU was left behind: %v", h.qemus())
			return
		}
	}
}

// kernelOf builds a kernel, or finds it in the cache, for the tests.
func kernelOf(t *testing.T, spec kernel.Spec) *kernel.Result {
	t.Helper()
	for i, s := range spec.Series {
		spec.Series[i] = filepath.Join("..", s)
	}
	k, err := kernel.Build(context.Background(), spec, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// on is the environment that runs the harness on a kernel.
func on(k *kernel.Result, env ...string) []string {
	return append([]string{"KERNEL=" + k.Image, "VMLINUX=" + k.Vmlinux, "MODULES=" + k.Modules}, env...)
}
