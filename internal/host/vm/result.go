package vm

import (
	"fmt"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// Ending is the way in which a VM ended.
type Ending string

const (
	// Exited: the program ended, see Result.Exit, and the guest switched
	// itself off. The only one in which all that was printed has arrived.
	Exited Ending = "exited"
	// Panicked: the kernel panicked, see Result.Fatal.
	Panicked Ending = "kernel panic"
	// OutOfMemory: the kernel killed the program, or itself, for want of
	// memory.
	OutOfMemory Ending = "out of memory"
	// Hung: the guest gave no sign of life for Config.Silence.
	Hung Ending = "hang"
	// PastDeadline: the guest lived, but Config.Deadline had passed.
	PastDeadline Ending = "deadline"
	// Overdue: the VM's user has ended it by VM.End.
	Overdue Ending = "overdue"
	// NotBooted: init never reported.
	NotBooted Ending = "did not boot"
	// WrongClock: the guest booted, but its clock runs too fast for anything
	// that waits to be judged. Nothing that it printed is passed on.
	WrongClock Ending = "wrong clock"
	// Reset: the guest reset itself without a panic, for example by a triple
	// fault.
	Reset Ending = "reset"
	// QEMUDied: QEMU itself failed, or somebody killed it.
	QEMUDied Ending = "QEMU died"
	// Interrupted: the context ended.
	Interrupted Ending = "interrupted"
)

// Result says how a VM ended.
type Result struct {
	Ending Ending
	// Why is one line that says what happened, and what to do about it if
	// the cause lies outside of the kernel under test.
	Why string
	// Exit is how the program ended; nil if the guest died before it did.
	Exit *contract.Exit
	// Stale: it died of a breakpoint that was not there any more, which is a
	// fault of QEMU's before 8.1.
	Stale bool
	// Hello is what booted; nil if nothing did.
	Hello *contract.Hello
	// Fatal is the kernel's report that goes with the Ending; nil if none.
	Fatal *KernelReport
	// Reports is everything that the kernel reported, in order, Fatal too.
	Reports []KernelReport
	// Stacks is what the guest showed of its CPUs and tasks before it was
	// killed because of Hung, Overdue or PastDeadline.
	Stacks string
	// Running is the test that had begun last and not ended at that time.
	Running string
	// QEMU is what QEMU itself printed, if anything.
	QEMU string
	// Lost is the first failure to write an artifact; nil if all are whole.
	Lost error
	// Machine is the one that was booted last.
	Machine Machine
	// Boot is the time from QEMU's start until init reported, 0 if it did
	// not; Total until QEMU ended.
	Boot, Total time.Duration
}

// Passed says whether the program ran to its end, with exit status 0, the
// kernel had nothing to report, and no artifact is lost.
func (r *Result) Passed() bool {
	return r.Ending == Exited && r.Exit != nil && *r.Exit == contract.Exit{} && len(r.Reports) == 0 && r.Lost == nil
}

// String is one line.
func (r *Result) String() string {
	s := string(r.Ending)
	if r.Why != "" {
		s += ": " + r.Why
	}
	if r.Running != "" && r.Ending != Exited {
		s += fmt.Sprintf(" (during %s)", r.Running)
	}
	return strings.ReplaceAll(s, "\n", "; ")
}
