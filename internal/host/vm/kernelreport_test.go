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
		"softlockup-arm64": {
			{SoftLockup, "stuck for 26s!", "TestSchedules/tun_net_xmit/drain-all/ring=2/fq_codel/backpressure", "BUG: soft lockup", "el0t_64_sync"},
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
func reportsIn(t *testing.T, file string) []KernelReport {
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
		"[    1.300000] INFO: NMI handler (perf_event_nmi_handler) took too long to run: 1.204 msecs",
		"[    1.400000] rcu: INFO: Stall ended before state dump start",
		"[    1.500000] traps: guest.test[71] general protection fault ip:401234 sp:7ffd0000 error:0 in guest.test[400000+1000]",
		"[    1.600000] guest.test[72]: segfault at 10 ip 0000000000401234 sp 00007ffd00000000 error 4 in guest.test[400000+1000]",
		"[    1.700000] tun: WARNING: the flags of tap0 are ignored",
		"[    1.800000] WARNING: this option of mount(2) will be removed",
		"[    1.900000] VFS: Mounted root (tmpfs filesystem) on device 0:17.",
		"[    2.000000] Command line: console=ttyS0 panic=-1 oops=panic",
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

// Each line begins a report, wherever in a line of the console it stands.
func TestFirstLines(t *testing.T) {
	for line, want := range map[string]Kind{
		"INFO: trying to register non-static key.":                                             Lockdep,
		"[ INFO: possible irq lock inversion dependency detected ]":                            Lockdep,
		"[ BUG: Invalid wait context ]":                                                        Lockdep,
		"NMI watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [vhost-71:73]":                  SoftLockup,
		"Watchdog detected hard LOCKUP on cpu 1":                                               HardLockup,
		"watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3":                               HardLockup,
		"INFO: task vhost-71:73 blocked in I/O wait for more than 120 seconds.":                HungTask,
		"INFO: task vhost-71:73 can't die for more than 143 seconds.":                          HungTask,
		"of two lines:73 blocked for more than 143 seconds.":                                   HungTask,
		"divide_error: 0000 [#1] PREEMPT SMP":                                                  Oops,
		"segment-related general protection fault: e030 [#1] SMP":                              Oops,
		"Internal error: synchronous external abort: 96000010 [#1] SMP":                        Oops,
		"Unhandled fault: page domain fault (0x01b) at 0x00000010":                             Oops,
		"Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010": Oops,
		"Internal error: Oops - BUG: 00000000f2000800 [#1] PREEMPT SMP":                        Oops,
		"Kernel panic - not syncing: Asynchronous SError Interrupt":                            Panic,
		"WARNING: kernel stack regs at ffffc90000123f58 in guest.test:71 has bad 'bp' value":   Warning,
		"WARNING: kernel stack frame pointer at ffffc90000123f58 in guest.test:71 has bad":     Warning,
		"BUG: KMSAN: uninit-value in tun_net_xmit+0x12c/0x5d0":                                 KMSAN,
		"BUG skbuff_head_cache (Tainted: G    B W          ): Poison overwritten":              Bug,
		"BUG kmalloc-64 (Not tainted): Object already free":                                    Bug,
		"INFO: Freed in kfree_skbmem+0x52/0xa0 age=12 cpu=1 pid=71":                            Bug,
		"VFS: Close: file count is 0 (f_op=tun_fops)":                                          Bug,
		"VFS: Busy inodes after unmount of sda (ext4)":                                         Bug,
	} {
		for _, before := range []string{
			"", "[   16.305150] ", "<4>[   16.305150][   T71] ", "[   16.305150][    C1]  ",
			"guest login: [   16.305150] ",
			"** 31 printk messages dropped ** [   16.305150] ",
			"[   16.305100] tap0: a line that does not end[   16.305150][ T1234] ",
		} {
			var p parser
			p.line(before + line)
			p.close()
			if len(p.found) != 1 || p.found[0].Kind != want || p.found[0].Title != line {
				t.Errorf("%q: found %+v, want %s", before+line, p.found, want)
			}
		}
	}
}

func TestOneReportOfSeveralThatCouldBe(t *testing.T) {
	for name, lines := range map[string][]string{
		"an oops in its steps": {
			"Unhandled fault: page domain fault (0x01b) at 0x00000010",
			"Internal error: : 1b [#1] SMP ARM",
		},
		"an oops of arm64 in its steps": {
			"Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010",
			"Mem abort info:",
			"  ESR = 0x0000000096000044",
			"[0000000000000010] user address but active_mm is swapper",
			"Internal error: Oops: 0000000096000044 [#1] PREEMPT SMP",
			"Modules linked in: tun",
			"pstate: 80000005 (Nzcv daif -PAN -UAO -TCO -DIT -SSBS BTYPE=--)",
			"pc : tun_net_xmit+0x1a4/0x5b0 [tun]",
			"lr : dev_hard_start_xmit+0x98/0x1f4",
			"Call trace:",
			" tun_net_xmit+0x1a4/0x5b0 [tun]",
			" dev_hard_start_xmit+0x98/0x1f4",
			"Code: 94000000 f9400260 f9000401 d65f03c0 (b9001002)",
			"---[ end trace 0000000000000000 ]---",
		},
		"an object and who had it": {
			"BUG kmalloc-64 (Not tainted): Object already free",
			"INFO: Allocated in __alloc_skb+0x12a/0x2d0 age=7 cpu=1 pid=71",
			"INFO: Freed in kfree_skbmem+0x52/0xa0 age=3 cpu=0 pid=72",
		},
		"the same, and its first line is lost": {
			"INFO: Allocated in __alloc_skb+0x12a/0x2d0 age=7 cpu=1 pid=71",
			"INFO: Freed in kfree_skbmem+0x52/0xa0 age=3 cpu=0 pid=72",
		},
	} {
		var p parser
		for _, line := range lines {
			p.line("[   16.305150] " + line)
		}
		p.close()
		if len(p.found) != 1 || p.found[0].Title != lines[0] || strings.Count(p.found[0].Text, "\n") != len(lines) {
			t.Errorf("%s: found %+v", name, p.found)
		}
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
