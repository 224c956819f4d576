package vm

import (
	"fmt"
	"strings"

	"github.com/hugelgupf/vmtest/qemu"
)

const (
	// Microvm has virtio-mmio devices and nothing to probe for: the quickest
	// to boot. The kernel has to have VIRTIO_MMIO.
	Microvm Machine = "microvm"
	// Q35 is a PC that every kernel knows.
	Q35 Machine = "q35"
)

func (m Machine) x86Options(accel Accel, instructions bool, cpus, memoryMiB int) qemu.Fn {
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

// adds is how many bytes at most QEMU itself adds to the command line: microvm
// says where each virtio device is (hw/i386/microvm.c).
func (m Machine) adds() int {
	if m == Microvm {
		return len(" virtio_mmio.device=512@0xfeb00e00:12")
	}
	return 0
}

func x86KernelArgs(accel Accel, instructions bool) string {
	args := append([]string{
		"console=ttyS0", "reboot=t",
		// An NMI from us is how to see a CPU that has interrupts off. On
		// microvm it looks like a PCI error: nothing answers at port 0x61.
		"unknown_nmi_panic", "sysctl.kernel.panic_on_unrecovered_nmi=1",
		// It reaches CPU 0 alone; this lets a panic show all of them.
		"panic_print=0x40",
	}, common...)
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
