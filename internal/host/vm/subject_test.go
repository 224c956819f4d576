package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// splat is a WARNING at a place, with these functions on its stack.
func splat(at string, stack ...string) string {
	return "------------[ cut here ]------------\nWARNING: CPU: 0 PID: 1 at " + at + "\nModules linked in: tun vhost_net\nCPU: 0 UID: 0 PID: 1 Comm: guest.test Not tainted 6.12.117 #2\n" +
		"Call Trace:\n " + strings.Join(stack, "\n ") + "\n---[ end trace 0000000000000000 ]---\n"
}

func TestUnrelated(t *testing.T) {
	timer := []string{"<IRQ>", "hrtimer_interrupt+0x10a/0x230", "__sysvec_apic_timer_interrupt+0x52/0x110", "</IRQ>", "<TASK>",
		"asm_sysvec_apic_timer_interrupt+0x1a/0x20", "RIP: 0010:tun_net_xmit+0x2d1/0x620", "dev_hard_start_xmit+0xa2/0x230", "</TASK>"}
	softirq := []string{"<IRQ>", "net_tx_action+0x10a/0x230", "handle_softirqs+0xe6/0x2b0", "irq_exit_rcu+0x52/0x110", "</IRQ>", "<TASK>", "default_idle+0xf/0x20", "</TASK>"}
	for _, tt := range []struct {
		name, console string
		unrelated     bool
	}{
		{"at boot, in ACPI", splat("drivers/acpi/bus.c:12 acpi_init+0x1d/0x30", "<TASK>", "do_one_initcall+0x56/0x2e0", "kernel_init+0x1a/0x130", "</TASK>"), true},
		{"in a timer that interrupts a transmit", splat("kernel/time/clockevents.c:38 cev_delta2ns+0x1d/0x30", timer...), true},
		{"in the driver", splat("drivers/net/tun.c:3843 noise+0x1d/0x30", "<TASK>", "do_one_initcall+0x56/0x2e0", "</TASK>"), false},
		{"below a transmit", splat("kernel/softirq.c:361 __local_bh_enable_ip+0x1d/0x30", "<TASK>", "tun_net_xmit+0x310/0x620", "dev_hard_start_xmit+0xa2/0x230", "</TASK>"), false},
		{"in the softirq that runs qdiscs", splat("kernel/softirq.c:361 __local_bh_enable_ip+0x1d/0x30", softirq...), false},
		{"below netlink", splat("lib/kobject.c:1 kobject_get+0x1d/0x30", "<TASK>", "qdisc_create+0x310/0x620", "tc_modify_qdisc+0xa2/0x230", "rtnetlink_rcv_msg+0x1/0x2", "</TASK>"), false},
		{"in vhost's worker", splat("kernel/kthread.c:1 kthread+0x1d/0x30", "<TASK>", "handle_rx+0x310/0x620 [vhost_net]", "vhost_run_work_list+0x1/0x2 [vhost]", "</TASK>"), false},
		{"in a poll of veth's", splat("kernel/kthread.c:1 kthread+0x1d/0x30", "<TASK>", "veth_poll+0x310/0x620 [veth]", "kthread+0xa2/0x230", "</TASK>"), false},
		{"in our own programs", splat("kernel/locking/mutex.c:1 mutex_lock+0x1d/0x30", "<TASK>", "bpf_prog_1234_pause+0x310/0x620", "</TASK>"), false},
		{"of memory that somebody has overwritten", splat("lib/list_debug.c:32 __list_add_valid_or_report+0x76/0xd0", "<TASK>", "do_one_initcall+0x56/0x2e0", "</TASK>"), false},
		{"without a stack", "WARNING: CPU: 0 PID: 1 at kernel/fork.c:1 copy_process+0x1d/0x30\n---[ end trace 0000000000000000 ]---\n", false},
		{"after 6.17", "------------[ cut here ]------------\nWARNING: drivers/net/tun.c:3105 at noise+0x1f0/0x210, CPU#2: guest.test/84\nCall Trace:\n do_one_initcall+0x56/0x2e0\n---[ end trace 0000000000000000 ]---\n", false},
		{"lockdep of locks of others", "WARNING: possible circular locking dependency detected\nswapper/0/1 is trying to acquire lock:\nffff888004a2c0d8 (&a->lock){+.+.}-{2:2}, at: acpi_one+0x2d1/0x620\n-> #1 (&b->lock){+...}-{2:2}:\n       acpi_two+0x310/0x620\nstack backtrace:\nCall Trace:\n <TASK>\n acpi_one+0x310/0x620\n </TASK>\n", true},
		{"lockdep of a qdisc's lock", "WARNING: possible circular locking dependency detected\nffff888004a2c0d8 (&sch->q.lock){+.+.}-{2:2}, at: one+0x2d1/0x620\nstack backtrace:\nCall Trace:\n <TASK>\n one+0x310/0x620\n </TASK>\n", false},
		{"an oops", "BUG: kernel NULL pointer dereference, address: 0000000000000000\nOops: 0002\nCall Trace:\n <TASK>\n acpi_one+0x310/0x620\n </TASK>\n---[ end trace 0000000000000000 ]---\n", false},
		{"a soft lockup", "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [a:1]\nCall Trace:\n <TASK>\n acpi_one+0x310/0x620\n </TASK>\n", false},
	} {
		var p parser
		for line := range strings.Lines(tt.console) {
			p.line(strings.TrimSuffix(line, "\n"))
		}
		p.close()
		if len(p.found) != 1 {
			t.Errorf("%s: %d reports: %+v", tt.name, len(p.found), p.found)
			continue
		}
		if why := p.found[0].Unrelated(); (why != "") != tt.unrelated {
			t.Errorf("%s: unrelated: %q, want %v", tt.name, why, tt.unrelated)
		}
	}
}

// TestUnrelatedRecorded: of what kernels were made to report, only lkdtm's WARN is
// of a place that has nothing to do with the device.
func TestUnrelatedRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/console/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var p parser
		for line := range strings.Lines(string(text)) {
			p.line(strings.TrimRight(line, "\r\n"))
		}
		p.close()
		for _, r := range p.found {
			if why := r.Unrelated(); (why != "") != (filepath.Base(file) == "warning.txt") {
				t.Errorf("%s: %s: unrelated: %q", file, r.Title, why)
			}
		}
	}
}
