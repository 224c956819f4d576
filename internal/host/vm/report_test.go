package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The consoles that end in a test's name were recorded from kernels that were
// made to report that; those of the debug options and of the network are put
// together from what such reports look like.
func TestReportsAreRecognised(t *testing.T) {
	type want struct {
		kind         Kind
		title, test  string
		first, final string // of the text
	}
	for file, reports := range map[string][]want{
		"warning": {
			{Warning, "lkdtm_WARNING_MESSAGE", "TestWarning", "cut here", "end trace"},
		},
		"refcount": {
			{Warning, "refcount_t: saturated; leaking memory.", "TestRefcount", "cut here", "end trace"},
		},
		"oops": {
			{Oops, "BUG: kernel NULL pointer dereference", "TestOops", "BUG: kernel", "end trace"},
			{Panic, "Fatal exception", "TestOops", "Kernel panic", ""},
		},
		"int3": {
			{Oops, "Oops: int3: 0000", "", "Oops", "end trace"},
			{Panic, "Fatal exception in interrupt", "", "Kernel panic", ""},
		},
		"panic": {
			{Panic, "sysrq triggered crash", "TestPanic", "Kernel panic", ""},
		},
		"outofmemory": {
			{OOM, "Out of memory: Killed process 64 (guest.test)", "TestOutOfMemory", "invoked oom-killer", "Killed process"},
		},
		"softlockup": {
			{SoftLockup, "stuck for 5s!", "TestSoftLockup", "BUG: soft lockup", "</TASK>"},
		},
		"lockdep": {
			{Lockdep, "WARNING: possible circular locking dependency", "TestDebug/lockdep", "circular", "</TASK>"},
			{Lockdep, "WARNING: suspicious RCU usage", "TestDebug/rcu", "suspicious", "</TASK>"},
			{Lockdep, "WARNING: inconsistent lock state", "TestDebug/rcu", "", ""},
			{Lockdep, "WARNING: possible recursive locking", "TestDebug/rcu", "", ""},
			{Lockdep, "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe", "TestDebug/rcu", "", ""},
			{Bug, "BUG: sleeping function called", "", "sleeping", "</TASK>"},
			{Bug, "BUG: scheduling while atomic", "", "scheduling", "</TASK>"},
		},
		"kasan": {
			{KASAN, "slab-use-after-free in tun_net_xmit", "TestDebug/kasan", "BUG: KASAN", "====="},
			{UBSAN, "array-index-out-of-bounds", "TestDebug/ubsan", "cut here", "end trace"},
			{Oops, "general protection fault", "TestDebug/ubsan", "Oops", "end trace"},
			{Panic, "Fatal exception in interrupt", "TestDebug/ubsan", "", ""},
		},
		"network": {
			{Driver, "Virtual device tun0 asks to queue packet!", "TestNet", "", ""},
			{Leak, "waiting for tun0 to become free", "TestNet", "", ""},
			{Driver, "Dead loop on virtual device tun0", "TestNet", "", ""},
			{Driver, "transmit queue 0 timed out", "TestNet", "", ""},
			{Warning, "list_add corruption. prev->next", "TestNet", "cut here", "end trace"},
			{Warning, "net/core/dev.c:3105", "TestNet", "cut here", "end trace"},
			{RCUStall, "rcu_preempt detected stalls", "TestNet", "INFO", "NMI backtrace"},
			{HardLockup, "hard LOCKUP on cpu 2", "TestNet", "LOCKUP", "tun_net_xmit"},
		},
	} {
		t.Run(file, func(t *testing.T) {
			found := reportsIn(t, file)
			for i, r := range found {
				if i >= len(reports) {
					t.Errorf("also found %s: %s", r.Kind, r.Title)
					continue
				}
				want := reports[i]
				if r.Kind != want.kind || !strings.Contains(r.Title, want.title) || r.Test != want.test {
					t.Errorf("report %d is %s %q of %q, want %+v", i, r.Kind, r.Title, r.Test, want)
				}
				lines := strings.Split(strings.TrimSpace(r.Text), "\n")
				if !strings.Contains(lines[0], want.first) || !strings.Contains(lines[len(lines)-1], want.final) {
					t.Errorf("report %d is cut: want it from %q to %q:\n%s", i, want.first, want.final, r.Text)
				}
			}
			if len(found) < len(reports) {
				t.Errorf("found %d reports, want %d", len(found), len(reports))
			}
		})
	}
}

// reportsIn parses a console in testdata.
func reportsIn(t *testing.T, file string) []Report {
	t.Helper()
	console, err := os.ReadFile(filepath.Join("testdata/console", file+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var p parser
	for line := range strings.Lines(string(console)) {
		p.line(strings.TrimRight(line, "\r\n"))
	}
	p.close()
	return p.found
}

func TestStaleBreakpoint(t *testing.T) {
	stale := reportsIn(t, "int3")[0]
	if !staleBreakpoint(stale) {
		t.Errorf("not recognised: %s", stale.Text)
	}
	there := stale
	there.Text = strings.ReplaceAll(stale.Text, "55 48 <89>", "55 cc <89>")
	if there.Text == stale.Text || staleBreakpoint(there) {
		t.Errorf("an int3 that is there is said not to be: %s", there.Text)
	}
	if other := reportsIn(t, "oops")[0]; staleBreakpoint(other) {
		t.Errorf("no int3: %s", other.Text)
	}
}

func TestOrdinaryLinesAreNoReports(t *testing.T) {
	var p parser
	for _, line := range []string{
		"[    0.000000] Linux version 6.12.57 (gcc) #1 SMP",
		"[    0.400000] PCI: Fatal: No config space access function found",
		"[    0.500000] amd_pstate: the _CPC object is not present in SBIOS or ACPI disabled",
		"[    0.600000] tsc: Unable to calibrate against PIT",
		"[    1.217037] clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc-early' as unstable because the skew is too large:",
		"[   13.265523] hrtimer: interrupt took 11644024 ns",
		"[    1.000000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible via Spectre v2 BHB attacks!",
		"[    1.100000] INFO: lockdep is turned off.",
		"[    1.200000] perf: interrupt took too long (2503 > 2500), lowering kernel.perf_event_max_sample_rate to 79000",
		"the program says: BUG: not the kernel's",
		"",
	} {
		p.line(line)
	}
	p.close()
	if len(p.found) != 0 {
		t.Errorf("found %+v", p.found)
	}
}

func TestReportIsBounded(t *testing.T) {
	var p parser
	p.line("watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [x:1]")
	for range 10 * maxReportLines {
		p.line("? function+0x1/0x2")
	}
	p.line("Kernel panic - not syncing: softlockup: hung tasks")
	p.close()
	if len(p.found) != 2 || p.found[1].Kind != Panic {
		t.Fatalf("found %d reports", len(p.found))
	}
	if n := strings.Count(p.found[0].Text, "\n"); n > maxReportLines {
		t.Errorf("a report of %d lines", n)
	}
}
