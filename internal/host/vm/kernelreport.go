package vm

import (
	"regexp"
	"slices"
	"strings"
)

// Kind is what sort of thing the kernel reported.
type Kind string

const (
	Panic      Kind = "panic"
	Oops       Kind = "oops" // page fault, general protection fault, BUG(), ...
	Bug        Kind = "BUG"  // what the kernel calls so and survives
	Warning    Kind = "WARNING"
	KASAN      Kind = "KASAN"
	KCSAN      Kind = "KCSAN"
	KMSAN      Kind = "KMSAN"
	KFENCE     Kind = "KFENCE"
	UBSAN      Kind = "UBSAN"
	Lockdep    Kind = "lockdep"
	RCUStall   Kind = "RCU stall"
	SoftLockup Kind = "soft lockup"
	HardLockup Kind = "hard lockup"
	HungTask   Kind = "hung task"
	OOM        Kind = "out of memory"
	Leak       Kind = "leak"   // kmemleak, a netdev that is never freed
	Driver     Kind = "driver" // net/core complains of what a driver did
)

// KernelReport is something that the kernel reported about itself on the console.
type KernelReport struct {
	Kind Kind
	// Title is the line that says what happened.
	Title string
	// Test is the one that had begun last and not ended, "" if none.
	Test string
	// Text is the whole report, as the console showed it; bounded.
	Text string
}

// A rule recognises a report by a line. The report ends with the line that
// end matches; without end, or if that never comes, when another report
// begins or the kernel pauses.
type rule struct {
	kind       Kind
	begin, end *regexp.Regexp
}

var (
	// kernel/panic.c: print_oops_end_marker.
	endTrace = regexp.MustCompile(`^---\[ end trace`)
	// arch/x86/kernel/dumpstack.c: show_trace_log_lvl.
	endStack = regexp.MustCompile(`^ ?</TASK>`)
	endFrame = regexp.MustCompile(`^={20,}$`)
	thisLine = regexp.MustCompile(``)
)

// rules are tried in order. The texts are those of Linux 5.10 to 6.18.
var rules = []rule{
	{Panic, regexp.MustCompile(`^Kernel panic - not syncing`), regexp.MustCompile(`^---\[ end Kernel panic`)},
	{KASAN, regexp.MustCompile(`^BUG: KASAN: `), endFrame},
	{KCSAN, regexp.MustCompile(`^BUG: KCSAN: `), endFrame},
	{KMSAN, regexp.MustCompile(`^BUG: KMSAN: `), endFrame},
	{KFENCE, regexp.MustCompile(`^BUG: KFENCE: `), endFrame},
	{UBSAN, regexp.MustCompile(`^UBSAN: `), endTrace},
	{SoftLockup, regexp.MustCompile(`^((NMI )?watchdog: )?BUG: soft lockup - CPU`), endStack},
	{HardLockup, regexp.MustCompile(`\bWatchdog detected hard LOCKUP on cpu`), nil},
	{RCUStall, regexp.MustCompile(`^(rcu: )?INFO: rcu\w* (self-)?detected (expedited )?stalls?`), nil},
	// The name of the task may have a line break in it.
	{HungTask, regexp.MustCompile(`:\d+ (blocked|blocked in I/O wait|can't die) for more than \d+ seconds`), endStack},
	{Lockdep, regexp.MustCompile(`^WARNING: (possible |inconsistent lock state|suspicious RCU usage|bad unlock balance|` +
		`\S+-safe -> \S+-unsafe lock order|(held lock freed|lock held when returning|Nested lock was not taken))`), endStack},
	{Lockdep, regexp.MustCompile(`^(BUG|WARNING): (.* still has locks held|Invalid wait context|.*lock held at )|^INFO: trying to register non-static key`), endStack},
	// Before 4.11 all that lockdep says is in brackets, and its BUGs still are.
	{Lockdep, regexp.MustCompile(`^\[ (BUG|INFO): `), endStack},
	{Oops, regexp.MustCompile(`^(kernel BUG at |BUG: kernel NULL pointer|BUG: unable to handle|BUG: stack guard page|BUG: TASK stack guard)`), endTrace},
	{Oops, regexp.MustCompile(`^(Oops: |(segment-related )?general protection fault|double fault|traps: PANIC|PANIC: double fault|divide[ _]error: |invalid opcode: |int3: |stack segment: |` +
		`Unable to handle kernel |Unhandled fault: |Internal error: )`), endTrace},
	// Before 6.18 and from then on (kernel/panic.c: __warn).
	{Warning, regexp.MustCompile(`^WARNING: (CPU: \d+ PID: \d+|\S+:\d+ at |at \S+\+0x)`), endTrace},
	// arch/x86/kernel/unwind_frame.c: unwind_next_frame.
	{Warning, regexp.MustCompile(`^WARNING: kernel stack (regs|frame pointer) at `), thisLine},
	{Bug, regexp.MustCompile(`^BUG: `), endStack},
	// mm/slub.c: slab_bug.
	{Bug, regexp.MustCompile(`^BUG \S+ \((Not tainted|Tainted: [^)]*)\): [A-Z]`), endStack},
	// fs/open.c: filp_flush; fs/super.c: generic_shutdown_super.
	{Bug, regexp.MustCompile(`^VFS: (Close: file count is 0|Busy inodes after unmount)`), thisLine},
	{OOM, regexp.MustCompile(`invoked oom-killer: `), oomKill},
	{Leak, regexp.MustCompile(`^unregister_netdevice: waiting for `), thisLine},
	{Leak, regexp.MustCompile(`^kmemleak: \d+ new suspected memory leaks`), thisLine},
	// net/core/dev.c: __dev_queue_xmit; net/sched/sch_generic.c: dev_watchdog.
	{Driver, regexp.MustCompile(`Virtual device \S+ asks to queue packet!|Dead loop on virtual device|NETDEV WATCHDOG: `), thisLine},
}

var (
	// mm/oom_kill.c: __oom_kill_process.
	oomKill = regexp.MustCompile(`^(Out of memory|Memory cgroup out of memory).*: Killed process`)
	// include/linux/bug.h: CUT_HERE comes before the line that says what.
	cutHere = regexp.MustCompile(`^-+\[ cut here \]-+$`)
	// printk.time, and CONFIG_PRINTK_CALLER.
	stamp = regexp.MustCompile(`(<\d+>)?\[ *\d+\.\d{6}\](\[ *[TC]\d+\])? *`)
	// rest is what follows the first line of a report of mm/slub.c, which may be
	// lost: when it was printed faster than the console is, or the buffer is full.
	rest = regexp.MustCompile(`^INFO: (Allocated|Freed) in `)
)

// A report is cut at so many lines: a lockdep splat of a long chain has some
// 200, all CPUs' stacks of an RCU stall some hundreds.
const maxReportLines = 500

// parser finds reports in the lines of a console.
type parser struct {
	marks marks
	open  *KernelReport // the one being read
	until *regexp.Regexp
	lines int
	// found is every complete report.
	found []KernelReport
	// message is what a WARN() or BUG says before its WARNING line.
	message string
}

// KernelReports finds what the kernel reported in the text of its log.
func KernelReports(log string) []KernelReport {
	var p parser
	for line := range strings.Lines(log) {
		p.line(strings.TrimSuffix(line, "\n"))
	}
	p.close()
	return p.found
}

// line reads a line of the console. It has several of the kernel's if what was
// printed first did not end its line.
func (p *parser) line(text string) {
	from := 0
	for _, at := range stamp.FindAllStringIndex(text, -1) {
		if at[0] > from {
			p.record(text[from:at[0]])
			from = at[0]
		}
	}
	p.record(text[from:])
}

// record reads a line of the kernel's log.
func (p *parser) record(text string) {
	if p.marks.line(text) {
		return
	}
	bare := text
	if at := stamp.FindStringIndex(text); at != nil && at[0] == 0 {
		bare = text[at[1]:]
	}
	switch r, ok := match(bare); {
	case cutHere.MatchString(bare):
		p.close()
		p.begin("", bare, nil)
	case p.unnamed() && ok && slices.Contains([]Kind{Warning, Oops, UBSAN}, r.kind):
		p.name(r, bare)
	case p.unnamed() && r.kind != Panic:
		if p.message == "" {
			p.message = bare
		}
	case ok && p.open != nil && p.open.Kind == Oops && r.kind == Oops:
		// "BUG: kernel NULL pointer dereference", then "Oops: 0002".
	case ok:
		p.close()
		p.begin(r.kind, bare, r.end)
	case p.open == nil && rest.MatchString(bare):
		p.begin(Bug, bare, endStack)
	}
	if p.open == nil {
		return
	}
	if p.lines++; p.lines <= maxReportLines {
		p.open.Text += text + "\n"
	}
	if oomKill.MatchString(bare) {
		p.open.Title = bare
	}
	// The frame around a KASAN report looks the same at both ends, but the
	// first comes before the line that begins it.
	if p.until != nil && p.until.MatchString(bare) {
		p.close()
	}
}

// unnamed says that "cut here" was read, and not yet what it is about.
func (p *parser) unnamed() bool { return p.open != nil && p.open.Kind == "" }

func (p *parser) begin(kind Kind, title string, until *regexp.Regexp) {
	p.open = &KernelReport{Kind: kind, Title: title, Test: p.marks.running()}
	p.until, p.lines, p.message = until, 0, ""
}

// name gives the report that "cut here" began its kind and title.
func (p *parser) name(r rule, title string) {
	p.open.Kind, p.open.Title, p.until = r.kind, title, r.end
	if p.message != "" {
		p.open.Title += ": " + p.message
	}
}

// close ends the open report, if there is one: at its last line, when the
// console pauses, and when the guest is dead.
func (p *parser) close() {
	if p.open == nil {
		return
	}
	r := *p.open
	p.open = nil
	if r.Kind == "" {
		r.Kind = Warning // cut off right behind "cut here"
		r.Title = p.message
	}
	same := func(other KernelReport) bool { return other.Title == r.Title }
	if r.Kind == Leak && slices.ContainsFunc(p.found, same) {
		return // repeated every ten seconds
	}
	p.found = append(p.found, r)
}

// byteBefore finds the byte before the one at which RIP points, in the dump of the code
// around it (arch/x86/kernel/dumpstack.c: show_opcodes).
var byteBefore = regexp.MustCompile(`Code: [0-9a-f ]*\b([0-9a-f]{2}) <`)

// staleBreakpoint says whether a CPU died of an int3 that is not there: the
// kernel had removed it, and the CPU executed it all the same. No real one does.
// TCG does before QEMU 8.1 (deba78709ae8, "accel/tcg: Always lock pages before
// translation").
func staleBreakpoint(r KernelReport) bool {
	if r.Kind != Oops || !strings.Contains(r.Title, "int3: ") {
		return false
	}
	code := byteBefore.FindStringSubmatch(r.Text)
	return code != nil && code[1] != "cc"
}

func match(line string) (rule, bool) {
	for _, r := range rules {
		if r.begin.MatchString(line) {
			return r, true
		}
	}
	return rule{}, false
}

func findReport(reports []KernelReport, kind Kind) *KernelReport {
	for i := range reports {
		if reports[i].Kind == kind {
			return &reports[i]
		}
	}
	return nil
}
