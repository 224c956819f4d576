package vm

import (
	"fmt"
	"strings"

	"github.com/hugelgupf/vmtest/qemu"
)

const (
	// Virt is QEMU's machine for arm64, with virtio-mmio devices, which a device
	// tree describes. The kernel has to have VIRTIO_MMIO.
	Virt Machine = "virt"
	// VirtPCI is the same with virtio-pci devices.
	VirtPCI Machine = "virt-pci"
)

func virtOptions(accel Accel, cpus, memoryMiB int) qemu.Fn {
	accelerator, cpu := string(accel), "max"
	if accel == TCG {
		// Armv8.1's atomics come with max. A kernel that signs its return
		// addresses is three times slower with the standard's cipher.
		accelerator, cpu = "tcg,thread=multi", "max,pauth-impdef=on"
	}
	return qemu.WithQEMUArgs(
		"-nodefaults", "-no-reboot",
		// GICv2 has no more than eight CPUs.
		"-M", "virt,gic-version=max",
		"-accel", accelerator,
		"-cpu", cpu,
		"-smp", fmt.Sprint(cpus),
		"-m", fmt.Sprintf("%dM", memoryMiB),
	)
}

func virtKernelArgs() string {
	// A panic shows all CPUs, which stop on an interrupt.
	return strings.Join(append([]string{"console=ttyAMA0", "panic_print=0x40"}, common...), " ")
}
