// Package vm boots a kernel in QEMU, runs one program in it, and says how it ended: the
// program's exit status, or how the guest died.
//
// The guest's output arrives as it is printed. The program's output comes through a
// virtio-serial port. The kernel's log comes through the serial console; it is kept in
// a file and searched for what the kernel reports (see KernelReport).
package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// Config describes a VM and what runs in it.
type Config struct {
	// Kernel and Initramfs are the files to boot. Required.
	Kernel, Initramfs string
	// Arch is the kernel's architecture, as Go calls it; "" is amd64.
	Arch string
	// Vmlinux is the kernel's ELF file, which gives names to the addresses at
	// which a hung guest's CPUs execute; "" if there is none.
	Vmlinux string
	// Boot is the program to run. Required.
	Boot contract.Boot
	// Accel is how QEMU executes the guest; "" is Auto.
	Accel Accel
	// CPUs is the number of virtual CPUs; 0 is 4.
	CPUs int
	// MemoryMiB is the guest's memory; 0 is 1024.
	MemoryMiB int
	// Instructions makes the guest's clock count the instructions that it
	// executes, a nanosecond for each, with one CPU and TCG whatever Accel and
	// CPUs say. While no CPU has anything to execute the clock jumps to the next
	// timer. What the guest does then depends on nothing but what it is given, or
	// nearly so: see docs/cost.md.
	Instructions bool
	// Plugin is an argument of QEMU's -plugin; "" is none.
	Plugin string
	// Append are further arguments for the kernel.
	Append []string
	// CommandLine is the longest command line that the kernel takes, in
	// bytes; 0 is x86's 2047 (arch/x86/include/asm/setup.h:
	// COMMAND_LINE_SIZE, with the zero at its end).
	CommandLine int

	// Deadline ends the VM when it has run for so long; 0 is no limit.
	Deadline time.Duration
	// BootTime is how long the guest may take until its init reports;
	// 0 is a minute, for kernels with KASAN and without KVM.
	BootTime time.Duration
	// Silence is how long the guest may send no sign of life, which init does
	// once a second; 0 is 20 s. A guest that is silent for longer hangs.
	Silence time.Duration

	// Dir is where the VM's artifacts are written, as it runs: console.log
	// and command.sh. It is made if need be. Required.
	Dir string
	// Output is given what the program prints; nil discards it.
	Output io.Writer
	// OnHello is called when the guest has booted; may be nil.
	OnHello func(contract.Hello)
	// OnReport is called with each KernelReport once it is
	// complete, and init has reported or the VM has ended: not with those of
	// a boot that failed and was followed by another. It may be nil.
	OnReport func(KernelReport)
	// Progress is told in a line each what is not obvious: the accelerator
	// and why, a second attempt on another machine; nil is io.Discard.
	Progress io.Writer
}

const (
	defaultCPUs      = 4
	defaultMemoryMiB = 1024
	defaultCmdline   = 2047
	defaultBootTime  = time.Minute
	defaultSilence   = 20 * time.Second
	// instructionsPatience stands for both with Config.Instructions.
	instructionsPatience = 3 * time.Minute
)

func (c *Config) setDefaults() error {
	for _, field := range []struct{ name, value string }{
		{"Kernel", c.Kernel}, {"Initramfs", c.Initramfs}, {"Dir", c.Dir},
	} {
		if field.value == "" {
			return fmt.Errorf("vm.Config: %s is required", field.name)
		}
	}
	// The command line has to work from any directory.
	var err error
	for _, path := range []*string{&c.Kernel, &c.Initramfs, &c.Dir} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if c.Instructions {
		c.Accel, c.CPUs = TCG, 1
		// Its clock may run at a tenth of ours, and so does its sign of life.
		slow := func(d *time.Duration) {
			if *d == 0 {
				*d = instructionsPatience
			}
		}
		slow(&c.BootTime)
		slow(&c.Silence)
	}
	if c.Accel == "" {
		c.Accel = Auto
	}
	if c.CPUs == 0 {
		c.CPUs = defaultCPUs
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = defaultMemoryMiB
	}
	if c.CommandLine == 0 {
		c.CommandLine = defaultCmdline
	}
	if c.BootTime == 0 {
		c.BootTime = defaultBootTime
	}
	if c.Silence == 0 {
		c.Silence = defaultSilence
	}
	if c.Output == nil {
		c.Output = io.Discard
	}
	if c.OnHello == nil {
		c.OnHello = func(contract.Hello) {}
	}
	if c.OnReport == nil {
		c.OnReport = func(KernelReport) {}
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return nil
}

// VM is a virtual machine that runs, or has ended.
type VM struct {
	cfg      Config
	platform *platform
	bootArg  string // what tells the guest's init of cfg.Boot
	program  program
	accel    Choice
	console  *console
	command  string
	overdue  chan string // why End was called
	ended    chan struct{}
	result   *Result
	err      error
}

// Start boots a VM:
//
//	vm, err := vm.Start(ctx, vm.Config{Kernel: "bzImage", Initramfs: image, Dir: dir,
//		Boot: contract.Boot{Argv: []string{initramfs.Program, "-test.v"}}})
//
// It returns when QEMU runs, before the guest has booted. The VM ends at the
// latest when ctx or this process does. The caller must Wait for it.
func Start(ctx context.Context, cfg Config) (*VM, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	platform := platformOf(cfg.Arch)
	program, err := openQEMU(ctx, platform)
	if err != nil {
		return nil, err
	}
	accel, err := Choose(ctx, cfg.Accel, cfg.Arch, cfg.Kernel, cfg.MemoryMiB)
	if err != nil {
		return nil, err
	}
	machine, err := machineFor(&cfg, program)
	if err != nil {
		return nil, err
	}
	console, err := openConsole(cfg.Dir, cfg.OnReport)
	if err != nil {
		return nil, err
	}
	vm := &VM{cfg: cfg, platform: platform, program: program, accel: accel, console: console, overdue: make(chan string, 1), ended: make(chan struct{})}
	if err := vm.fit(); err != nil {
		return nil, errors.Join(err, console.close())
	}
	b, err := vm.start(ctx, machine)
	if err != nil {
		return nil, errors.Join(err, console.close())
	}
	fmt.Fprintf(cfg.Progress, "accelerator %s: %s\n", accel.Accel, accel.Reason)
	go func() {
		defer close(vm.ended)
		vm.result, vm.err = vm.supervise(ctx, b)
		vm.result.Lost = console.close()
		vm.err = errors.Join(vm.err, vm.result.Lost)
	}()
	return vm, nil
}

// Wait waits for the VM's end and returns how it ended. An error says that
// this could not be found out, or that artifacts could not be written; the
// Result, as far as it is known, comes with it.
func (vm *VM) Wait() (*Result, error) {
	<-vm.ended
	return vm.result, vm.err
}

// End ends the VM, in which something is overdue, once it has been asked for the
// stacks of its CPUs. Wait for it.
func (vm *VM) End(why string) {
	select {
	case vm.overdue <- why:
	default: // it is ending
	}
}

// Accel is the accelerator that was chosen, and why.
func (vm *VM) Accel() Choice { return vm.accel }

// AwaitEnd waits until all that the kernel logged before the test's end mark
// has been read, and is reported if it has to be; nth is 1 for the first time
// that this test ran in the VM. It returns false if the mark does not come
// before ctx or the VM ends.
func (vm *VM) AwaitEnd(ctx context.Context, test string, nth int) bool {
	return vm.console.awaitEnd(ctx, test, nth)
}
