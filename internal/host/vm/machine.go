package vm

import (
	"slices"

	"github.com/hugelgupf/vmtest/qemu"
)

// Machine is a machine that QEMU emulates.
type Machine string

// platform is what guests of an architecture run on.
type platform struct {
	arch     qemu.Arch // as Go calls it
	commands []string  // of QEMU, where distributions have it
	pkg      string    // that has it in Debian
	machines []Machine // to try, one after the other
	serial   string    // the option that the serial console needs
}

var platforms = []platform{
	{
		arch: qemu.ArchAMD64, commands: []string{"qemu-system-x86_64", "qemu-kvm", "/usr/libexec/qemu-kvm"}, pkg: "qemu-system-x86",
		machines: []Machine{Microvm, Q35}, serial: "CONFIG_SERIAL_8250_CONSOLE",
	},
	{
		arch: qemu.ArchArm64, commands: []string{"qemu-system-aarch64"}, pkg: "qemu-system-arm",
		machines: []Machine{Virt, VirtPCI}, serial: "CONFIG_SERIAL_AMBA_PL011_CONSOLE",
	},
}

// platformOf finds the architecture that Go calls so; "" is amd64.
func platformOf(arch string) *platform {
	if arch == "" {
		return &platforms[0]
	}
	return &platforms[slices.IndexFunc(platforms, func(p platform) bool { return string(p.arch) == arch })]
}

// machinesOf are those that this QEMU has.
func (q program) machinesOf(p *platform) []Machine {
	if !q.microvm {
		return slices.DeleteFunc(slices.Clone(p.machines), func(m Machine) bool { return m == Microvm })
	}
	return p.machines
}

// options are the arguments that make the machine.
func (m Machine) options(accel Accel, instructions bool, cpus, memoryMiB int) qemu.Fn {
	if m == Virt || m == VirtPCI {
		return virtOptions(accel, cpus, memoryMiB)
	}
	return m.x86Options(accel, instructions, cpus, memoryMiB)
}

// device adapts fn, which adds virtio devices, to the machine: QEMU takes
// "virtio-serial" for the PCI device, but microvm has no PCI bus, and a kernel for
// virt may have no driver for one.
func (m Machine) device(fn qemu.Fn) qemu.Fn {
	if m != Microvm && m != Virt {
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
func (m Machine) earlyConsole() string {
	if m == Virt || m == VirtPCI {
		return "loglevel=7 console=ttyAMA0 earlycon=pl011,0x9000000 panic=-1"
	}
	return "loglevel=7 console=ttyS0 earlyprintk=ttyS0 panic=-1"
}

// common are arguments of the kernel's on each machine.
var common = []string{
	// WARN() prints at KERN_WARNING, which "quiet" would hide.
	"loglevel=5", "printk.time=1",
	// The marks around tests come in bursts.
	"printk.devkmsg=on",
	// With -no-reboot, a panic ends QEMU: after a second, in which QEMU
	// passes on what the guest had sent before.
	"panic=1",
	// Addresses are then those in vmlinux.
	"nokaslr",
	// 256 devices that nobody uses take 0.3 s under TCG.
	"pty.legacy_count=0",
	"rcupdate.rcu_expedited=1",
}

// kernelArgs is the kernel command line, but for what is to be run.
func (m Machine) kernelArgs(accel Accel, instructions bool) string {
	if m == Virt || m == VirtPCI {
		return virtKernelArgs()
	}
	return x86KernelArgs(accel, instructions)
}
