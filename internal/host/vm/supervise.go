package vm

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/srcline"
)

// supervise follows the boot to its end, and boots once more on the second machine
// when the first did not get as far as init: the kernel may lack what that needs.
func (vm *VM) supervise(ctx context.Context, b *boot) (*Result, error) {
	began := time.Now()
	r, err := vm.insist(ctx, b, began)
	other := vm.platform.machines[len(vm.platform.machines)-1]
	if err != nil || r.Ending != NotBooted || b.machine == other {
		return r, err
	}
	fmt.Fprintf(vm.cfg.Progress, "%s: %s; trying %s\n", b.machine, r.Why, other)
	second, err := vm.start(ctx, other)
	if err != nil {
		return r, err
	}
	first := r
	r, err = vm.insist(ctx, second, began)
	switch {
	case err != nil:
		return r, err
	case r.Ending == NotBooted && r.Why != first.Why:
		r.Why += fmt.Sprintf(" (and on %s: %s)", b.machine, first.Why)
	case r.Hello != nil && first.Total < vm.cfg.BootTime && !vm.stale(first):
		// Neither did it just take too long nor was it QEMU's fault, which
		// another time may be otherwise.
		return r, rememberMachine(&vm.cfg, vm.program, other)
	}
	return r, nil
}

// luckless is how often a guest is booted that QEMU keeps from booting, or
// whose clock is wrong.
const luckless = 4

// insist follows the boot to its end, and boots once more on the same machine
// when QEMU's fault ended it before init reported, or the guest mistook the pace
// of its clock: that says nothing about the kernel, and no test has run.
func (vm *VM) insist(ctx context.Context, b *boot, began time.Time) (*Result, error) {
	for boots := 1; ; boots++ {
		r := vm.follow(ctx, b, began)
		unlucky := r.Ending == WrongClock || r.Ending == NotBooted && vm.stale(r)
		if !unlucky || boots == luckless {
			return r, nil
		}
		fmt.Fprintf(vm.cfg.Progress, "%s: %s; booting it again\n", b.machine, r.Why)
		again, err := vm.start(ctx, b.machine)
		if err != nil {
			return r, err
		}
		b = again
	}
}

// stale says whether the guest died of a breakpoint that was not there.
func (vm *VM) stale(r *Result) bool {
	return vm.accel.Accel == TCG && r.Fatal != nil && staleBreakpoint(*r.Fatal)
}

// follow follows one QEMU process to its end.
func (vm *VM) follow(ctx context.Context, b *boot, began time.Time) *Result {
	r := &Result{Machine: b.machine}
	var killed Ending // why we killed QEMU, if we did
	stacks := make(chan string, 1)
	kill := func(why Ending) {
		if killed != "" {
			return
		}
		killed = why
		_, _, r.Running = vm.console.state()
		go func() { // the guest has to be listened to meanwhile
			stacks <- vm.askForStacks(ctx, b)
			b.kill()
		}()
	}

	// refuse ends a guest that has reported, and cannot be used: nothing counts
	// that it says.
	refused := false
	refuse := func(ending Ending, why string) {
		killed, r.Why, refused = ending, why, true
		b.kill()
	}

	silence := time.NewTimer(vm.cfg.BootTime)
	defer silence.Stop()
	var deadline <-chan time.Time
	if vm.cfg.Deadline > 0 {
		timer := time.NewTimer(vm.cfg.Deadline - time.Since(began))
		defer timer.Stop()
		deadline = timer.C
	}
	interrupted := ctx.Done()
	noPort := b.noPort
	events := b.events
	var exited <-chan struct{}
	for events != nil || exited != nil {
		select {
		case e, ok := <-events:
			if !ok {
				events, exited = nil, b.exited
				if r.Exit != nil {
					// The guest waits for it: were it to switch itself
					// off, QEMU would discard what it has still queued.
					b.kill()
				}
				break
			}
			silence.Reset(vm.cfg.Silence)
			switch {
			case refused:
			case e.Hello != nil && !vm.cfg.Instructions && tooFast(e.Hello.Uptime, time.Since(b.began)):
				refuse(WrongClock, fmt.Sprintf("it says that it has been up for %v, %v after QEMU was started: on a busy host a kernel may mistake the pace of its clock; stop what else runs on this one",
					e.Hello.Uptime.Round(time.Millisecond), time.Since(b.began).Round(time.Millisecond)))
			case e.Hello != nil && b.machine == Microvm && vm.cfg.missesCPUs(e.Hello):
				refuse(NotBooted, fmt.Sprintf("the kernel finds one of %d CPUs: for those of QEMU's microvm it needs CONFIG_X86_MPPARSE", vm.cfg.CPUs))
			case e.Hello != nil && !vm.console.speaks(ctx):
				refuse(NotBooted, "init has reported, but the kernel prints nothing on the serial console, and so what it reports cannot be known: it needs "+vm.platform.serial)
			case e.Hello != nil:
				if e.Hello.CPUs < vm.cfg.CPUs {
					fmt.Fprintf(vm.cfg.Progress, "%s: the kernel uses %d of %d CPUs\n", b.machine, e.Hello.CPUs, vm.cfg.CPUs)
				}
				r.Hello, r.Boot = e.Hello, time.Since(b.began)
				vm.console.up()
				if vm.cfg.Vmlinux != "" && srcline.SameBuild(vm.cfg.Vmlinux, e.Hello.Notes) != nil {
					vm.cfg.Vmlinux = "" // its names would be wrong
				}
				vm.cfg.OnHello(*e.Hello)
			case e.Output != nil:
				vm.cfg.Output.Write(e.Output)
			case e.Exit != nil:
				r.Exit = e.Exit
			}
		case <-exited:
			exited = nil
		case <-noPort:
			killed, noPort = NotBooted, nil
			b.kill()
		case <-silence.C:
			if r.Hello == nil {
				kill(NotBooted)
			} else {
				kill(Hung)
			}
		case <-deadline:
			kill(PastDeadline)
		case r.Why = <-vm.overdue:
			kill(Overdue)
		case <-interrupted:
			killed, interrupted = Interrupted, nil
			b.kill()
		}
	}
	r.Total = time.Since(b.began)
	r.QEMU = b.said.String()
	select {
	case r.Stacks = <-stacks:
	default:
	}
	log, reports, running := vm.console.state()
	r.Reports = reports
	if r.Running == "" {
		r.Running = running
	}
	vm.conclude(r, b, killed, log)
	return r
}

// tooFast says whether a guest's clock is, that long after QEMU was started.
// One that is right is behind, whatever delays the guest or its messages.
func tooFast(uptime, since time.Duration) bool { return uptime > since+since/4 }

// missesCPUs says whether the guest has one CPU only, and nothing that was asked
// for or compiled in tells why.
func (c *Config) missesCPUs(h *contract.Hello) bool {
	limited := slices.ContainsFunc(c.Append, func(arg string) bool {
		return arg == "nosmp" || strings.HasPrefix(arg, "maxcpus=") || strings.HasPrefix(arg, "nr_cpus=")
	})
	return h.CPUs == 1 && c.CPUs > 1 && !limited && strings.Contains(h.Version, "SMP")
}

// conclude decides what the end of QEMU means.
func (vm *VM) conclude(r *Result, b *boot, killed Ending, log bootLog) {
	panicked := cause(r.Reports)
	starved := findReport(r.Reports, OOM)
	var status *exec.ExitError
	failed := errors.As(b.err, &status)
	switch {
	case r.Why != "": // the guest was refused
		r.Ending = killed
	case r.Exit != nil && r.Exit.Signal == "SIGKILL" && starved != nil:
		r.Ending, r.Fatal = OutOfMemory, starved
		r.Why = fmt.Sprintf("the kernel killed the program for want of memory; it has %d MiB", vm.cfg.MemoryMiB)
	case r.Exit != nil:
		r.Ending, r.Why = Exited, describeExit(r.Exit)
	case panicked != nil && starved != nil:
		r.Ending, r.Fatal, r.Why = OutOfMemory, panicked, panicked.Title
	case panicked != nil && r.Hello == nil:
		r.Ending, r.Fatal, r.Why = NotBooted, panicked, panicked.Title
	case panicked != nil:
		r.Ending, r.Fatal, r.Why = Panicked, panicked, panicked.Title
	case killed == Interrupted:
		r.Ending = Interrupted
	case killed == Overdue:
		r.Ending = Overdue
	case killed == PastDeadline:
		r.Ending = PastDeadline
		r.Why = fmt.Sprintf("the VM was still at work after %v", vm.cfg.Deadline)
	case killed == Hung:
		r.Ending = Hung
		r.Why = fmt.Sprintf("the guest has given no sign of life for %v", vm.cfg.Silence)
	case killed == NotBooted && log.noPort != "":
		r.Ending, r.Why = NotBooted, log.noPort
	case killed == NotBooted:
		r.Ending = NotBooted
		r.Why = fmt.Sprintf("init did not report within %v; %s", vm.cfg.BootTime, log.lastWords())
	case failed:
		r.Ending, r.Why = QEMUDied, describeQEMU(status, r.QEMU)
	case r.Hello == nil:
		r.Ending = NotBooted
		r.Why = "the guest reset itself before init reported; " + log.lastWords()
	default:
		r.Ending = Reset
		r.Why = "the guest reset itself without a panic; " + log.lastWords()
	}
	if r.Ending == NotBooted && vm.accel.Accel == KVM {
		r.Why += "; to see whether KVM is to blame, try ACCEL=tcg"
	}
	if vm.stale(r) {
		r.Stale = true
		r.Why += "; but no int3 is there any more: QEMU before 8.1 may miss that the kernel has removed one, so this is no fault of the kernel's; should it come back, take a newer QEMU or KVM"
	}
}

// cause is the report of a panic, or that of what led to it at once: "Fatal
// exception" follows every oops and says nothing more.
func cause(reports []KernelReport) *KernelReport {
	panicked := findReport(reports, Panic)
	if panicked != nil && strings.Contains(panicked.Title, "Fatal exception") {
		if oops := findReport(reports, Oops); oops != nil {
			return oops
		}
	}
	return panicked
}

func describeExit(e *contract.Exit) string {
	switch {
	case e.Error != "":
		return "the program could not be started: " + e.Error
	case e.Signal != "":
		return "the program was killed by " + e.Signal
	default:
		return fmt.Sprintf("the program's exit status is %d", e.Code)
	}
}

func describeQEMU(status *exec.ExitError, said string) string {
	why := "QEMU failed: " + status.String()
	if ws, ok := status.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		why = fmt.Sprintf("QEMU was killed from outside by signal %d (%v)", ws.Signal(), ws.Signal())
		if ws.Signal() == syscall.SIGKILL {
			why += "; if nobody did, the host was out of memory: see dmesg"
		}
	}
	if said != "" {
		why += ": " + strings.ReplaceAll(said, "\n", "; ")
	}
	return why
}
