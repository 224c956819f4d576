// Command init is process 1 of the VM: it makes the file systems that tests
// expect, loads the modules that the image carries, runs the program that the
// host asked for and relays what it prints, and switches the machine off.
//
// It talks to the host over a virtio-serial port named contract.PortName.
// What it prints itself goes to the console and begins with "init: ".
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/hugelgupf/vmtest/guest"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/kmsg"
	"golang.org/x/sys/unix"
)

func main() {
	complain := func(err error) { fmt.Fprintf(os.Stderr, "init: %v\n", err) }
	if os.Getpid() != 1 {
		complain(fmt.Errorf("this is process 1 of ringproof's VM, not a program to run"))
		os.Exit(1)
	}
	defer switchOff()

	for _, err := range mountAll() {
		complain(err)
	}
	showAll()
	boot, err := bootFromCmdline()
	if err != nil {
		complain(err)
		return
	}
	moduleErrors, modular := loadModules()

	port, err := openPort()
	if err != nil {
		if !modular {
			err = fmt.Errorf("%w, or has it as a module: MODULES names the directory of a kernel's modules", err)
		}
		for _, e := range moduleErrors {
			if strings.HasPrefix(e, "virtio") {
				err = fmt.Errorf("%w; not loaded: module %s", err, e)
			}
		}
		complain(err)
		// The command line that reproduces a VM gives it no port: whoever
		// runs it wants to see the program on the terminal.
		run(boot, os.Stderr)
		return
	}
	// By this the host knows that the kernel has a console.
	if err := kmsg.Write("<3>init: up\n"); err != nil {
		complain(err)
	}
	port.Emit(contract.Event{Hello: hello(moduleErrors)})
	silence := beat(port)
	exit := run(boot, output{port})
	port.Emit(contract.Event{Exit: &exit})
	silence()
	port.Close()
	// The host ends QEMU once it has read all of this. A reset from here
	// would lose what QEMU has not yet passed on.
	time.Sleep(10 * time.Second)
}

// beat gives a sign of life every so often, until silence has returned: one that
// came after port's end would be the end of the host's process
// (vmtest/qemu/qevent: EventChannel sends it on a channel that it has closed).
func beat(port *guest.Emitter[contract.Event]) (silence func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.Tick(time.Second); ; {
			select {
			case <-tick:
				port.Emit(contract.Event{Alive: true})
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// showAll shows the kernel's messages on the console from KERN_INFO on, now that
// they do not delay the boot: the stacks in reports are among them
// (kernel/sched/core.c: sched_show_task).
func showAll() {
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("7"), 0); err != nil {
		fmt.Fprintf(os.Stderr, "init: show all messages: %v\n", err)
	}
}

func bootFromCmdline() (contract.Boot, error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return contract.Boot{}, fmt.Errorf("find out what to run: %w", err)
	}
	boot, err := contract.ParseBoot(string(cmdline), os.ReadFile)
	if err != nil {
		return boot, fmt.Errorf("find out what to run: %w; the command line has %d bytes: if the kernel has cut it off, APPEND or its CONFIG_CMDLINE is too long", err, len(cmdline))
	}
	return boot, nil
}

func hello(moduleErrors []string) *contract.Hello {
	h := &contract.Hello{CPUs: runtime.NumCPU(), ModuleErrors: moduleErrors}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		h.Release = unix.ByteSliceToString(uts.Release[:])
		h.Version = unix.ByteSliceToString(uts.Version[:])
		h.Preemption = preemption(h.Version)
	}
	h.Notes, _ = os.ReadFile("/sys/kernel/notes") // a kernel may have none
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err == nil {
		h.Uptime = time.Duration(up.Nano())
	}
	return h
}

// output relays what the program prints.
type output struct {
	port *guest.Emitter[contract.Event]
}

func (o output) Write(p []byte) (int, error) {
	return len(p), o.port.Emit(contract.Event{Output: p})
}

// switchOff ends QEMU, which is started with -no-reboot: unlike a power-off, a
// restart needs no ACPI, which microvm may lack.
func switchOff() {
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
