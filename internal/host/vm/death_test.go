package vm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPanicInATest(t *testing.T) {
	t.Parallel()
	g := startGuest(t.Context(), t, "TestPanic", nil)
	r := g.end(t, Panicked)
	if r.Fatal == nil || r.Fatal.Test != "TestPanic" || !strings.Contains(r.Fatal.Title, "sysrq triggered crash") {
		t.Errorf("fatal %+v", r.Fatal)
	}
	if !strings.Contains(r.Fatal.Text, "Call Trace") {
		t.Errorf("no stack in %s", r.Fatal.Text)
	}
	if r.Running != "TestPanic" {
		t.Errorf("running %q", r.Running)
	}
	if !strings.Contains(g.out.String(), "said before the panic") {
		t.Errorf("lost what was printed before: %q", g.out)
	}
}

func TestResetIsNoSuccess(t *testing.T) {
	t.Parallel()
	startGuest(t.Context(), t, "TestReboot", nil).end(t, Reset)
}

func TestMemoryExhausted(t *testing.T) {
	for test, report := range map[string]string{
		"TestOutOfMemory": "Out of memory: Killed process",
		"TestPanicOnOOM":  "panic_on_oom is enabled",
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			r := startGuest(t.Context(), t, test, func(c *Config) { c.MemoryMiB = 256 }).end(t, OutOfMemory)
			if r.Fatal == nil || r.Fatal.Test != test || !strings.Contains(r.Fatal.Title, report) {
				t.Errorf("fatal %+v", r.Fatal)
			}
		})
	}
}

func TestKernelReportsBelongToTheirTest(t *testing.T) {
	for test, want := range map[string]struct {
		ending Ending
		kind   Kind
		title  string
	}{
		"TestWarning":  {Exited, Warning, "Warning message trigger count: "},
		"TestRefcount": {Exited, Warning, "refcount_t: saturated; leaking memory."},
		"TestOops":     {Panicked, Oops, "BUG: kernel NULL pointer dereference"},
		"TestBUG":      {Panicked, Oops, "kernel BUG at drivers/misc/lkdtm/bugs.c:"},
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			r := startGuest(t.Context(), t, test, nil).end(t, want.ending)
			if len(r.Reports) == 0 {
				t.Fatal("no report")
			}
			got := r.Reports[0]
			if got.Kind != want.kind || got.Test != test || !strings.Contains(got.Title, want.title) {
				t.Errorf("report %+v", got)
			}
			if !strings.Contains(got.Text, "---[ end trace") {
				t.Errorf("the report is not whole: %s", got.Text)
			}
			if r.Passed() {
				t.Error("passed in spite of it")
			}
		})
	}
}

// What goes on for ever is reported all the same.
func TestReportsOfAStuckKernel(t *testing.T) {
	for test, want := range map[string]struct {
		kind  Kind
		stack string
	}{
		"TestSoftLockup": {SoftLockup, "Call Trace"},
		"TestRCUStall":   {RCUStall, "lkdtm_SOFTLOCKUP"},
		"TestHungTask":   {HungTask, "lkdtm_HUNG_TASK"},
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			ctx, reported := context.WithCancel(t.Context())
			r := startGuest(ctx, t, test, func(c *Config) {
				c.Silence = time.Minute
				c.OnReport = func(r KernelReport) {
					if r.Kind == want.kind {
						reported()
					}
				}
			}).end(t, Interrupted)
			report := findReport(r.Reports, want.kind)
			if report == nil {
				t.Fatalf("no %s in %v", want.kind, r.Reports)
			}
			if report.Test != test || !strings.Contains(report.Text, want.stack) {
				t.Errorf("%s of %q: %s", want.kind, report.Test, report.Text)
			}
		})
	}
}

func TestInterruptsOff(t *testing.T) {
	t.Parallel()
	vmlinux := os.Getenv("VMLINUX")
	if vmlinux == "" { // in the tree that KERNEL was built in
		vmlinux = filepath.Join(filepath.Dir(os.Getenv("KERNEL")), "../../../vmlinux")
	}
	if _, err := os.Stat(vmlinux); err != nil {
		t.Skip("needs KERNEL's vmlinux: set VMLINUX")
	}
	// On a busy host the guest may need longer than we wait.
	for range 3 {
		r := startGuest(t.Context(), t, "TestInterruptsOff", func(c *Config) {
			c.Silence, c.Deadline, c.Vmlinux = 5*time.Second, 40*time.Second, vmlinux
		}).end(t, Hung)
		if r.Running != "TestInterruptsOff" {
			t.Errorf("running %q", r.Running)
		}
		if !strings.Contains(r.Stacks, "RIP=") || !strings.Contains(r.Stacks, " lkdtm_HARDLOCKUP+0x") {
			t.Errorf("QEMU does not show where the CPUs are:\n%s", r.Stacks)
		}
		if strings.Contains(r.Stacks, "Kernel panic - not syncing: NMI: Not continuing") {
			return
		}
		t.Logf("the NMI was not answered:\n%s", r.Stacks)
	}
	t.Error("an NMI was never answered")
}

// A stopped QEMU is a guest that has hung with everything around it: not even
// the monitor answers.
func TestNothingAnswers(t *testing.T) {
	t.Parallel()
	g := startGuest(t.Context(), t, "TestSleep", func(c *Config) { c.Silence = 2 * time.Second })
	g.out.await(t, "sleeping")
	if err := syscall.Kill(qemuOf(t, g.VM), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	g.end(t, Hung)
	if took := time.Since(begin); took > 2*time.Second+stacksTime+3*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDeadlineShowsStacks(t *testing.T) {
	t.Parallel()
	g := startGuest(t.Context(), t, "TestSleep", func(c *Config) { c.Deadline = 15 * time.Second })
	begin := time.Now()
	r := g.end(t, PastDeadline)
	if took := time.Since(begin); took > 15*time.Second+stacksTime+3*time.Second {
		t.Errorf("took %v", took)
	}
	for _, want := range []string{"RIP=", "sysrq: Show backtrace of all active CPUs", "sysrq: Show Blocked State"} {
		if !strings.Contains(r.Stacks, want) {
			t.Errorf("the stacks lack %q:\n%s", want, r.Stacks)
		}
	}
	if r.Running != "TestSleep" || len(r.Reports) != 0 {
		t.Errorf("running %q, reports %v", r.Running, r.Reports)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	g := startGuest(ctx, t, "TestSleep", nil)
	g.out.await(t, "sleeping")
	begin := time.Now()
	interrupt()
	g.end(t, Interrupted)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func TestQEMUKilled(t *testing.T) {
	t.Parallel()
	g := startGuest(t.Context(), t, "TestSleep", nil)
	g.out.await(t, "sleeping")
	if err := syscall.Kill(qemuOf(t, g.VM), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r := g.end(t, QEMUDied)
	if !strings.Contains(r.Why, "killed from outside by signal 9") {
		t.Errorf("why: %s", r.Why)
	}
}
