// Package breakpoint holds up a CPU at an instruction of the kernel, or counts how
// often an instruction is executed. An execution breakpoint runs an eBPF program,
// which spins until it is released (pause.bpf.c). This needs no debug info, no source
// and no change of the patch, and writes nothing into the kernel's text.
package breakpoint

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/order"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// MaxRounds is how many rounds of looking at its state (pause.bpf.c: SPINS) a CPU
// takes at most: more than there are in any limit, which is what should end a
// pause. 2^30 looks take ten seconds where each takes 10 ns.
const MaxRounds = 1 << 20

// Pauser can hold up each CPU at one instruction. There is one for a process.
type Pauser struct {
	objects pauseObjects
	memory  []byte // of objects.Controls
	// Rounds is MaxRounds, or what a test wants.
	Rounds uint32
}

// NewPauser loads the program. What the kernel lacks is a
// *kernelfeature.MissingError.
func NewPauser() (*Pauser, error) {
	if err := kernelfeature.LockedDown(); err != nil {
		return nil, err
	}
	p := &Pauser{Rounds: MaxRounds}
	if err := loadPauseObjects(&p.objects, nil); err != nil {
		return nil, pauseError(err)
	}
	controls := p.objects.Controls
	var err error
	p.memory, err = unix.Mmap(controls.FD(), 0, int(controls.MaxEntries()*controls.ValueSize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the control block of the pause: %w", err), p.objects.Close())
	}
	if err := errors.Join(unthrottle(), plainProbes()); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// unthrottle lets breakpoints fire as often as they will. One that is passed
// by others' packets does so often; throttled, it would miss the packet that
// counts (kernel/events/core.c: __perf_event_account_interrupt).
func unthrottle() error {
	// The rate can be set only while the other is neither 0 nor 100
	// (perf_event_max_sample_rate_handler).
	for _, set := range [][2]string{{"perf_cpu_time_max_percent", "25"}, {"perf_event_max_sample_rate", "100000000"}, {"perf_cpu_time_max_percent", "0"}} {
		if err := os.WriteFile("/proc/sys/kernel/"+set[0], []byte(set[1]), 0); err != nil {
			return fmt.Errorf("keep the kernel from throttling breakpoints: %w", err)
		}
	}
	return nil
}

// plainProbes keeps kprobes the breakpoints that they are when they are set. The
// kernel replaces one by a jump some time later, and that by the instruction
// some time after the kprobe is gone (kernel/kprobes.c: kprobe_optimizer): the
// text changes while a schedule executes it, and QEMU before 8.1 now and then
// misses such a change, and runs into a breakpoint that is no longer there.
func plainProbes() error {
	err := os.WriteFile("/proc/sys/debug/kprobes-optimization", []byte("0"), 0)
	if errors.Is(err, os.ErrNotExist) { // a kernel without kprobes, or without CONFIG_OPTPROBES
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep the kernel from replacing kprobes by jumps: %w", err)
	}
	return nil
}

func pauseError(err error) error {
	const what = "eBPF program that holds a CPU up"
	missing := func(option string) error { return &kernelfeature.MissingError{Option: option, What: what, Err: err} }
	switch {
	case errors.Is(err, unix.ENOSYS): // of bpf(2)
		return missing("CONFIG_BPF_SYSCALL")
	case errors.Is(features.HaveProgramType(ebpf.PerfEvent), ebpf.ErrNotSupported):
		return missing("CONFIG_BPF_EVENTS")
	case errors.Is(features.HaveProgramHelper(ebpf.PerfEvent, asm.FnLoop), ebpf.ErrNotSupported):
		return missing("bpf_loop (Linux 5.17)")
	}
	return fmt.Errorf("load the eBPF program that holds a CPU up: %w", err)
}

// Close sets nobody free: close the traps before.
func (p *Pauser) Close() error {
	return errors.Join(unix.Munmap(p.memory), p.objects.Close())
}

// Trap holds up one CPU when it is about to execute one instruction.
type Trap struct {
	pauser  *Pauser
	cpu     int
	control *pauseControl
	event   int // of perf_event_open(2), -1 while there is none
	attr    unix.PerfEventAttr
	locks   []int // as event, see WatchLocks
	more    []int // as event, see Also
	// probe is a kprobe, which is used where no breakpoint can be set.
	probe link.Link
	at    disasm.Point
}

// CannotHoldError says that no CPU can be held up at an instruction.
type CannotHoldError struct {
	Point disasm.Point
	Err   error
}

func (e *CannotHoldError) Error() string {
	return fmt.Sprintf("a CPU cannot be held up at %v (%s): no breakpoint can be had there, and no kprobe: %v", e.Point, e.Point.Text, e.Err)
}

func (e *CannotHoldError) Unwrap() error { return e.Err }

// Trap returns the trap of a CPU, not set on any instruction yet. A CPU has
// one at a time.
func (p *Pauser) Trap(cpu int) (*Trap, error) {
	controls := p.objects.Controls
	if cpu < 0 || cpu >= int(controls.MaxEntries()) {
		return nil, fmt.Errorf("hold up CPU %d: only the first %d can be", cpu, controls.MaxEntries())
	}
	t := &Trap{pauser: p, cpu: cpu, event: -1}
	t.control = (*pauseControl)(unsafe.Pointer(&p.memory[cpu*int(controls.ValueSize())]))
	return t, nil
}

// breakpointX is HW_BREAKPOINT_X (include/uapi/linux/hw_breakpoint.h).
const breakpointX = 4

// Set moves the trap to an instruction: a breakpoint, or a kprobe if the kernel
// or the CPU has no breakpoint for us. It is fastest on the trap's own CPU, for
// no other has to be interrupted then.
func (t *Trap) Set(p disasm.Point) error {
	if t.at == p && (t.event >= 0 || t.probe != nil) {
		return nil
	}
	t.Disarm()
	t.at = p
	if t.probe == nil {
		err := t.setBreakpoint(p)
		switch {
		case noBreakpoint(err):
		case errors.Is(err, unix.ENODEV):
			return fmt.Errorf("hold up CPU %d: it is offline: %w", t.cpu, err)
		case err != nil:
			return fmt.Errorf("set a breakpoint on CPU %d at %v: %w", t.cpu, p, err)
		default:
			return nil
		}
	}
	return t.setProbe(p)
}

func (t *Trap) setBreakpoint(p disasm.Point) error {
	t.attr = Attr(p)
	if t.event >= 0 {
		if moveBreakpoint(t.event, &t.attr) == 0 {
			return nil
		}
		if err := t.remove(); err != nil {
			return err
		}
	}
	var err error
	t.event, err = openBreakpoint(&t.attr, t.cpu, t.pauser.objects.PauseAtBreakpoint)
	return err
}

// openBreakpoint returns -1 if there is an error.
func openBreakpoint(attr *unix.PerfEventAttr, cpu int, program *ebpf.Program) (event int, err error) {
	if event, err = unix.PerfEventOpen(attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC); errors.Is(err, unix.EINVAL) {
		return -1, refused(err)
	} else if err != nil {
		return -1, err
	}
	if err := unix.IoctlSetInt(event, unix.PERF_EVENT_IOC_SET_BPF, program.FD()); err != nil {
		return -1, errors.Join(fmt.Errorf("attach a program to a breakpoint: %w", err), unix.Close(event))
	}
	return event, nil
}

// refused explains EINVAL: where the kernel would set no kprobe, it sets no
// breakpoint either, and if it has no kprobes, that is everywhere
// (arch/x86/kernel/hw_breakpoint.c: arch_build_bp_info).
func refused(err error) error {
	_, found := disasm.Disassemble("within_kprobe_blacklist")
	if none := (*disasm.NoFunctionError)(nil); errors.As(found, &none) {
		return &kernelfeature.MissingError{Option: "CONFIG_KPROBES", What: "breakpoint in the kernel's own text", Err: err}
	}
	return fmt.Errorf("the kernel keeps kprobes away from there: %w", err)
}

// WatchLocks makes the trap notice that its CPU has to wait for a spinlock, while it is
// armed with another trap that is to be released next. The CPU of that trap may hold
// the lock, so it is released at once; see Waits. Where no breakpoint can be set for
// this, the other trap is released when its time is over.
func (t *Trap) WatchLocks() error {
	programs := &t.pauser.objects
	// kernel/locking/qspinlock.c
	err := t.watch(programs.WaitAtBreakpoint, "queued_spin_lock_slowpath", "native_queued_spin_lock_slowpath")
	if err != nil {
		return err
	}
	// kernel/locking/spinlock_rt.c: with CONFIG_PREEMPT_RT spinlocks sleep, and
	// only raw ones spin.
	lock, err := disasm.Disassemble("rt_spin_lock")
	if none := (*disasm.NoFunctionError)(nil); errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return err
	}
	owner, ok := lock.LockOwner()
	if !ok {
		return nil // CONFIG_DEBUG_RT_MUTEXES: the function is called for every lock, free or not
	}
	t.control.Owner = owner
	return t.watch(programs.SleepAtBreakpoint, "rtlock_slowlock_locked")
}

// watch has a program run where the function begins, the first of those that the
// kernel has.
func (t *Trap) watch(program *ebpf.Program, names ...string) error {
	for _, name := range names {
		f, err := disasm.Disassemble(name)
		if none := (*disasm.NoFunctionError)(nil); errors.As(err, &none) {
			continue
		}
		if err != nil {
			return err
		}
		attr := Attr(f.Points[0])
		event, err := openBreakpoint(&attr, t.cpu, program)
		if noBreakpoint(err) {
			return nil
		}
		if err != nil {
			return err
		}
		t.locks = append(t.locks, event)
		return nil
	}
	return nil
}

// moveBreakpoint sets one elsewhere. Before 4.17 that cannot be done.
func moveBreakpoint(event int, attr *unix.PerfEventAttr) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(event), unix.PERF_EVENT_IOC_MODIFY_ATTRIBUTES, uintptr(unsafe.Pointer(attr)))
	return errno
}

// noBreakpoint says whether the kernel or the CPU has none for us, or not there.
func noBreakpoint(err error) bool {
	if missing := (*kernelfeature.MissingError)(nil); errors.As(err, &missing) {
		return false
	}
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSPC)
}

// setProbe sets a kprobe, which every CPU runs into; only this one is held up.
func (t *Trap) setProbe(p disasm.Point) error {
	if err := t.remove(); err != nil {
		return err
	}
	probe, err := link.Kprobe(p.Symbol, t.pauser.objects.PauseAtKprobe, &link.KprobeOptions{Offset: p.Offset})
	if err != nil {
		return &CannotHoldError{p, err}
	}
	t.probe = probe
	return nil
}

// Also sets breakpoints at the instructions to which GoOn is to let the CPU go on; they
// are those until the next call. It is fastest on the trap's own CPU.
func (t *Trap) Also(points ...disasm.Point) error {
	for len(t.more) > len(points) {
		last := len(t.more) - 1
		if err := unix.Close(t.more[last]); err != nil {
			return err
		}
		t.more = t.more[:last]
	}
	for i, p := range points {
		attr := Attr(p)
		if i < len(t.more) {
			if errno := moveBreakpoint(t.more[i], &attr); errno != 0 {
				return fmt.Errorf("move a breakpoint of CPU %d to %v: %w", t.cpu, p, errno)
			}
			continue
		}
		event, err := openBreakpoint(&attr, t.cpu, t.pauser.objects.PauseAtBreakpoint)
		if err != nil {
			return &CannotHoldError{p, err}
		}
		t.more = append(t.more, event)
	}
	return nil
}

// Unset removes the trap from its instruction, and leaves the breakpoint to others.
func (t *Trap) Unset() error {
	t.Disarm()
	t.at = disasm.Point{}
	return errors.Join(t.Also(), t.remove())
}

// remove removes the breakpoint or the kprobe.
func (t *Trap) remove() error {
	var errs []error
	if t.event >= 0 {
		errs = append(errs, unix.Close(t.event))
		t.event = -1
	}
	if t.probe != nil {
		errs = append(errs, t.probe.Close())
		t.probe = nil
	}
	return errors.Join(errs...)
}

// Arm makes the trap hold its CPU up the next time, for at most limit. If next
// is not nil, that trap's CPU is let go on at that moment.
func (t *Trap) Arm(limit time.Duration, next *Trap) {
	t.Ready(limit, 0)
	if next != nil {
		t.control.Next = uint32(next.cpu) + 1
	}
	t.arm()
}

// ArmAfter makes the trap hold its CPU up, for at most limit, after it has come by so
// many times.
func (t *Trap) ArmAfter(passes int, limit time.Duration) {
	t.Ready(limit, passes)
	t.arm()
}

func (t *Trap) arm() { atomic.StoreUint32((*uint32)(&t.control.State), uint32(pauseStateARMED)) }

// GoOn lets a CPU that is held up go on to an instruction that Also has a breakpoint at,
// where it is held up after it has come by so many times. It says whether the CPU had
// waited for that.
func (t *Trap) GoOn(p disasm.Point, passes int) bool {
	t.control.Pc, t.control.Passes = p.Addr, uint32(passes)
	return t.change(pauseStatePAUSED, pauseStateARMED)
}

// Registers are those of the CPU, where a breakpoint holds it up.
func (t *Trap) Registers() order.Registers {
	r := &t.control.Registers
	return order.Registers{PC: r.Pc, SP: r.Sp, Flags: r.Flags, Top: r.Top, GPR: r.Gpr}
}

// Ready is for a trap that a Recorder arms: its CPU is then held up, for at most limit,
// after it has come by so many times more.
func (t *Trap) Ready(limit time.Duration, passes int) {
	t.control.Limit, t.control.Rounds = uint64(limit), t.pauser.Rounds
	t.control.Next, t.control.Waits, t.control.Passes, t.control.Pc = 0, 0, uint32(passes), t.at.Addr
}

func (t *Trap) state() pauseState {
	return pauseState(atomic.LoadUint32((*uint32)(&t.control.State)))
}

func (t *Trap) change(from, to pauseState) bool {
	return atomic.CompareAndSwapUint32((*uint32)(&t.control.State), uint32(from), uint32(to))
}

// Expired says whether the CPU went on by itself, before it was released,
// because its time was over.
func (t *Trap) Expired() bool { return t.state() == pauseStateEXPIRED }

// Exhausted says whether the CPU went on by itself although its time was not
// over: it had looked for its release as often as it may.
func (t *Trap) Exhausted() bool { return t.state() == pauseStateEXHAUSTED }

// Waits says whether, since the trap was armed, its CPU had to wait for a spinlock
// before it could be held up, and the next one was let go on for that.
func (t *Trap) Waits() bool { return atomic.LoadUint32(&t.control.Waits) != 0 }

// Release lets the CPU go on, and says whether it had waited for that.
func (t *Trap) Release() bool {
	return t.change(pauseStatePAUSED, pauseStateRELEASED)
}

// Disarm lets the CPU pass from now on, and go on if it is held up. It says
// whether the trap has caught it since it was armed.
func (t *Trap) Disarm() bool {
	if t.change(pauseStateARMED, pauseStateIDLE) {
		return false
	}
	was := t.state()
	if !t.Release() {
		t.change(pauseStateEXPIRED, pauseStateIDLE)
		t.change(pauseStateEXHAUSTED, pauseStateIDLE)
	}
	return was != pauseStateIDLE
}

// Close lets the CPU go on and removes the trap.
func (t *Trap) Close() error {
	t.Disarm()
	err := errors.Join(t.Also(), t.remove())
	for _, event := range t.locks {
		err = errors.Join(err, unix.Close(event))
	}
	t.locks = nil
	return err
}

// Caught says whether the trap has caught its CPU since it was armed, which may
// have gone on since.
func (t *Trap) Caught() bool { return t.state() != pauseStateARMED }

// Holding says whether the trap holds its CPU up now.
func (t *Trap) Holding() bool { return t.state() == pauseStatePAUSED }

// At is the instruction that the trap is set on.
func (t *Trap) At() disasm.Point { return t.at }

// IsKprobe says whether the trap is a kprobe there.
func (t *Trap) IsKprobe() bool { return t.probe != nil }
