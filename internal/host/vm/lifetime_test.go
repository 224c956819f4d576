package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// qemuOf returns the pid of the QEMU that runs vm.
func qemuOf(t *testing.T, vm *VM) int {
	t.Helper()
	pids := qemusBelow(t, os.Getpid(), vm.cfg.Append[0])
	if len(pids) != 1 {
		t.Fatalf("%d QEMUs with %s", len(pids), vm.cfg.Append[0])
	}
	return pids[0]
}

// qemusBelow lists the children of a process whose command line has mark in it.
func qemusBelow(t *testing.T, parent int, mark string) (pids []int) {
	t.Helper()
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for _, child := range strings.Fields(string(children)) {
			cmdline, _ := os.ReadFile("/proc/" + child + "/cmdline")
			if pid, err := strconv.Atoi(child); err == nil &&
				!strings.Contains(string(cmdline), become) && strings.Contains(string(cmdline), "\x00-nodefaults\x00") && strings.Contains(string(cmdline), mark) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// TestChild is not a test: it is what the tests below run as a process of its
// own, to kill it.
func TestChild(t *testing.T) {
	if os.Getenv("RINGPROOF_TEST_CHILD") == "" {
		t.Skip("run by TestQEMUNeverOutlivesUs")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
	defer stop()
	g := startGuest(ctx, t, "TestSleep", nil)
	g.out.await(t, "sleeping")
	fmt.Println("the guest runs")
	r, err := g.Wait()
	fmt.Println("ended:", r, err)
}

func TestQEMUNeverOutlivesUs(t *testing.T) {
	for _, way := range []struct {
		name  string
		args  []string
		kill  syscall.Signal // sent to the whole process group, as ^C is
		prove string         // that it died in that way
	}{
		{"killed", nil, syscall.SIGKILL, ""},
		{"interrupted", nil, syscall.SIGINT, "ended: interrupted"},
		{"quit", nil, syscall.SIGQUIT, "SIGQUIT: quit"},
		{"timeout", []string{"-test.timeout=20s"}, 0, "panic: test timed out after 20s"},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			needKernel(t)
			tmp := t.TempDir()
			var out output
			child := exec.Command(os.Args[0], append([]string{"-test.run=^TestChild$", "-test.v"}, way.args...)...)
			child.Env = append(os.Environ(), "RINGPROOF_TEST_CHILD=1", "TMPDIR="+tmp)
			child.Stdout, child.Stderr = &out, &out
			child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			defer child.Process.Kill()
			out.await(t, "the guest runs")
			pids := qemusBelow(t, child.Process.Pid, "")
			if len(pids) != 1 {
				t.Fatalf("QEMUs below the child: %v\n%s", pids, &out)
			}
			if way.kill != 0 {
				syscall.Kill(-child.Process.Pid, way.kill)
			}
			child.Wait()
			if !goneWithin(pids[0], time.Second) {
				syscall.Kill(pids[0], syscall.SIGKILL)
				t.Errorf("QEMU outlived us:\n%s", &out)
			}
			if !strings.Contains(out.String(), way.prove) {
				t.Errorf("%q not in\n%s", way.prove, &out)
			}
			// The test's own artifacts are no leftovers of ours.
			left, _ := filepath.Glob(filepath.Join(tmp, "*"))
			for _, file := range left {
				if !strings.HasPrefix(filepath.Base(file), "TestChild") {
					t.Errorf("left behind: %s", file)
				}
			}
		})
	}
}

func goneWithin(pid int, d time.Duration) bool {
	for begin := time.Now(); time.Since(begin) < d; time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return true
		}
	}
	return false
}

func TestQEMUAbsent(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("QEMU", "")
	t.Setenv("VMTEST_QEMU", "")
	for _, p := range platforms {
		_, err := Start(t.Context(), Config{Kernel: "k", Arch: string(p.arch), Initramfs: "i", Dir: t.TempDir()})
		if err == nil {
			t.Fatal("Start succeeded without QEMU")
		}
		for _, want := range []string{p.commands[0], "apt-get install " + p.pkg} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not say %q: %v", want, err)
			}
		}
	}
}

func TestQEMUElsewhere(t *testing.T) {
	found, err := findQEMU(&platforms[0])
	if err != nil {
		t.Skip("needs QEMU: ", err)
	}
	dir := filepath.Join(t.TempDir(), "with spaces")
	elsewhere := filepath.Join(dir, "qemu-kvm")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(found.path, elsewhere); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name               string
		path, qemu, vmtest string
		want               []string // of the command line
		says               string   // of an error
	}{
		{"QEMU", "/absent", elsewhere, "", []string{elsewhere}, ""},
		{"QEMU before VMTEST_QEMU", "/absent", elsewhere, "/absent/qemu", []string{elsewhere}, ""},
		{"VMTEST_QEMU with arguments", "/absent", "", found.path + " -L /firmware", []string{found.path, "-L", "/firmware"}, ""},
		{"qemu-kvm in PATH", dir, "", "", []string{elsewhere}, ""},
		{"a name that is not there", dir, "qemu-system-mips", "", nil, "QEMU=qemu-system-mips: "},
		{"a relative path", dir, "./qemu-kvm", "", nil, "absolute"},
		{"VMTEST_QEMU that is not there", dir, "", "/absent/qemu -L x", nil, "VMTEST_QEMU=/absent/qemu: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("PATH", c.path)
			t.Setenv("QEMU", c.qemu)
			t.Setenv("VMTEST_QEMU", c.vmtest)
			q, err := findQEMU(&platforms[0])
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v; want %q", err, c.says)
				}
				return
			}
			if err != nil || !slices.Equal(q.command(), c.want) {
				t.Errorf("%q, %v; want %q", q.command(), err, c.want)
			}
		})
	}
	// It works by that name, and its build can do what this one can.
	t.Setenv(cache.Env, t.TempDir())
	here, err := openQEMU(t.Context(), &platforms[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("QEMU", elsewhere)
	there, err := openQEMU(t.Context(), &platforms[0])
	if err != nil || there.microvm != here.microvm || there.sandboxed != here.sandboxed {
		t.Errorf("%+v, %v; want as %+v", there, err, here)
	}
}

// A QEMU that is not as Debian's: without microvm, without a seccomp filter.
func TestQEMUThatCanDoLess(t *testing.T) {
	t.Setenv(cache.Env, t.TempDir())
	script := filepath.Join(t.TempDir(), "qemu")
	text := "#!/bin/sh\n[ \"$2\" = help ] || { echo 'There is no option group sandbox'; exit 1; }\necho Supported machines are:\necho 'q35   Standard PC'\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("QEMU", script)
	q, err := openQEMU(t.Context(), &platforms[0])
	if err != nil || q.microvm || q.sandboxed {
		t.Errorf("%+v, %v; want neither microvm nor a sandbox", q, err)
	}
	if m, err := machineFor(&Config{Kernel: script}, q); err != nil || m != Q35 {
		t.Errorf("machine %s, %v; want %s", m, err, Q35)
	}
}

// The guest is kept from more than QEMU does: see sandbox.
func TestQEMUIsSandboxed(t *testing.T) {
	t.Parallel()
	q, err := openQEMU(t.Context(), &platforms[0])
	if err != nil || !q.sandboxed {
		t.Skip("needs a QEMU with a seccomp filter: ", err)
	}
	g := startGuest(t.Context(), t, "TestSleep", nil)
	g.out.await(t, "sleeping")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", qemuOf(t, g.VM)))
	if err != nil || !strings.Contains(string(status), "Seccomp:\t2\n") {
		t.Errorf("%v\n%s", err, status)
	}
}

func TestQEMUThatFails(t *testing.T) {
	t.Parallel()
	// QEMU refuses what is no kernel.
	file := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(file, []byte("not a kernel, but longer than its header has to be"+strings.Repeat(" ", 9000)), 0o644); err != nil {
		t.Fatal(err)
	}
	r := startGuest(t.Context(), t, "TestPass", func(c *Config) { c.Kernel, c.Accel = file, TCG }).end(t, QEMUDied)
	if !strings.Contains(r.Why, "QEMU failed: exit status 1: ") || !strings.Contains(r.Why, "kernel") {
		t.Errorf("why: %s", r.Why)
	}
}

func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small tmpfs")
	}
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	g := startGuest(t.Context(), t, "TestFloodConsole", func(c *Config) { c.Dir = dir })
	r, err := g.Wait()
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), dir) {
		t.Errorf("Wait: %v", err)
	}
	if r.Ending != Exited || !strings.Contains(g.out.String(), "--- PASS: TestFloodConsole") {
		t.Errorf("the run did not go on: %v", r)
	}
	if r.Passed() {
		t.Error("passed, though artifacts are lost")
	}
	if kept, _ := os.ReadFile(filepath.Join(dir, "console.log")); len(kept) < 32<<10 {
		t.Errorf("%d bytes of console.log were kept, of 64 KiB that fit", len(kept))
	}
}
