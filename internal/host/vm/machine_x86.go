package vm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hugelgupf/vmtest/qemu"
)

const (
	qemuCommand = "qemu-system-x86_64"
	qemuPackage = "qemu-system-x86"
	guestArch   = qemu.ArchAMD64
)

// Machine is a machine type of QEMU's.
type Machine string

const (
	// Microvm has virtio-mmio devices and nothing to probe for: the quickest
	// to boot. The kernel has to have VIRTIO_MMIO.
	Microvm Machine = "microvm"
	// Q35 is a PC that every kernel knows.
	Q35 Machine = "q35"
)

// options are the arguments that make the machine.
func (m Machine) options(accel Accel, instructions bool, cpus, memoryMiB int) qemu.Fn {
	// All that the host's CPU can do. Not so under TCG: wide registers and
	// 5-level page tables only make it slower, by a third.
	accelerator, cpu := string(accel), "max"
	if accel == TCG {
		accelerator, cpu = "tcg,thread=multi", "Nehalem,+rdrand"
	}
	var clock []string
	if instructions {
		// Nothing random: an instruction of the host's CPU would be. The wall
		// clock is the guest's own, too, or it would start at another time.
		accelerator, cpu = "tcg,thread=single", "Nehalem"
		clock = []string{"-icount", "shift=0,sleep=off,align=off", "-rtc", "base=2026-01-01,clock=vm"}
	}
	machine := string(m)
	switch m {
	case Microvm:
		// It then describes its devices on the kernel's command line and its
		// CPUs in an MP table, which need less of a kernel than ACPI does.
		machine += ",acpi=off"
	case Q35:
		// Or, with -nographic, SeaBIOS prints on the serial console, and
		// resets the terminal.
		machine += ",graphics=on"
	}
	return qemu.WithQEMUArgs(append(clock,
		"-nodefaults", "-no-reboot",
		"-M", machine,
		"-accel", accelerator,
		"-cpu", cpu,
		"-smp", fmt.Sprint(cpus),
		"-m", fmt.Sprintf("%dM", memoryMiB),
	)...)
}

// device adapts fn, which adds virtio devices, to the machine: on x86 QEMU
// takes "virtio-serial" for the PCI device, but microvm has no PCI bus.
func (m Machine) device(fn qemu.Fn) qemu.Fn {
	if m != Microvm {
		return fn
	}
	return func(alloc *qemu.IDAllocator, o *qemu.Options) error {
		if err := fn(alloc, o); err != nil {
			return err
		}
		if i := slices.Index(o.QEMUArgs, "virtio-serial"); i >= 0 {
			o.QEMUArgs[i] = "virtio-serial-device"
		}
		return nil
	}
}

// earlyConsole makes a kernel print from its first moments on. "Linux version"
// is at KERN_NOTICE, which is not shown by a kernel whose
// CONFIG_CONSOLE_LOGLEVEL_DEFAULT is 4; the level counts from where it stands.
const earlyConsole = "loglevel=7 console=ttyS0 earlyprintk=ttyS0 panic=-1"

// adds is how many bytes at most QEMU itself adds to the command line: microvm
// says where each virtio device is (hw/i386/microvm.c).
func (m Machine) adds() int {
	if m == Microvm {
		return len(" virtio_mmio.device=512@0xfeb00e00:12")
	}
	return 0
}

// kernelArgs is the kernel command line, but for what is to be run.
func (m Machine) kernelArgs(accel Accel, instructions bool) string {
	args := []string{
		"console=ttyS0",
		// WARN() prints at KERN_WARNING, which "quiet" would hide.
		"loglevel=5", "printk.time=1",
		// The marks around tests come in bursts.
		"printk.devkmsg=on",
		// With -no-reboot, a panic ends QEMU: after a second, in which QEMU
		// passes on what the guest had sent before.
		"panic=1", "reboot=t",
		// An NMI from us is how to see a CPU that has interrupts off. On
		// microvm it looks like a PCI error: nothing answers at port 0x61.
		"unknown_nmi_panic", "sysctl.kernel.panic_on_unrecovered_nmi=1",
		// It reaches CPU 0 alone; this lets a panic show all of them.
		"panic_print=0x40",
		// Addresses are then those in vmlinux.
		"nokaslr",
		// 256 devices that nobody uses take 0.3 s under TCG.
		"pty.legacy_count=0",
		"rcupdate.rcu_expedited=1",
	}
	if accel == TCG {
		// The guest's TSC is the host's. Measuring it against the PIT
		// fails on a busy host, and microvm has no other clock: time would
		// then advance by jiffies, if at all.
		args = append(args, "no_timer_check")
		khz := tscKHz()
		if instructions {
			khz = 1e6 // one tick for each instruction
			// With one CPU a kernel would take the locks off its
			// instructions, of which a profile counts the locked ones.
			args = append(args, "noreplace-smp")
		}
		if khz > 0 {
			args = append(args, fmt.Sprintf("tsc_early_khz=%d", khz), "tsc=reliable")
		}
	}
	return strings.Join(args, " ")
}
