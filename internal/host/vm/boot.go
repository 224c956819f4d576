package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"github.com/hugelgupf/vmtest/qemu"
	"github.com/hugelgupf/vmtest/qemu/qevent"
	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/contract"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// boot is one QEMU process.
type boot struct {
	machine Machine
	began   time.Time
	events  chan contract.Event
	noPort  <-chan struct{} // closed when init says that it has none
	console *os.File        // to write to; vm.console reads it
	monitor net.Conn
	qemu    *qemu.VM
	kill    context.CancelFunc
	// said is what QEMU itself printed.
	said *tail
	// exited is closed when QEMU has ended, its console is read to the end
	// and events is closed; err is then what exec.Cmd.Wait said.
	exited chan struct{}
	err    error
}

// start starts QEMU.
func (vm *VM) start(ctx context.Context, machine Machine) (*boot, error) {
	if err := vm.reproduce(machine); err != nil {
		return nil, err
	}
	b := &boot{
		machine: machine,
		events:  make(chan contract.Event),
		said:    &tail{},
		exited:  make(chan struct{}),
	}
	console, theirConsole, err := rawPTY()
	if err != nil {
		return nil, err
	}
	monitor, theirMonitor, err := socketpair()
	if err != nil {
		console.Close()
		theirConsole.Close()
		return nil, err
	}
	b.console, b.monitor = console, monitor
	closeAll := func() {
		console.Close()
		theirConsole.Close()
		monitor.Close()
		theirMonitor.Close()
	}
	o, err := qemu.OptionsFor(vm.platform.arch,
		vm.options(machine),
		machine.device(qevent.EventChannel(contract.PortName, b.events)),
		withFile(theirConsole, "-chardev", "pipe,id=console,path=/proc/self/fd/%d", "-serial", "chardev:console"),
		withFile(theirMonitor, "-chardev", "socket,id=monitor,fd=%d", "-mon", "chardev=monitor,mode=control"),
		qemu.WithSerialOutput(b.said),
	)
	if err != nil {
		closeAll()
		return nil, fmt.Errorf("configure QEMU: %w", err)
	}
	o.VMTimeout = 0

	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	b.kill = kill
	b.noPort = vm.console.begin(fmt.Sprintf("%s, %s, %s", machine, vm.accel.Accel, vm.cfg.Kernel))
	b.began = time.Now()
	b.qemu, err = launch(running, vm.program, o)
	if err != nil {
		kill()
		closeAll() // what is QEMU's may be closed already
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer console.Close()
		vm.console.read(console)
	}()
	go func() {
		defer close(b.exited)
		b.err = b.qemu.Wait()
		<-read
		monitor.Close()
		kill()
	}()
	return b, nil
}

// options are those that the VM and the command that reproduces it share.
func (vm *VM) options(machine Machine) qemu.Fn {
	var plugin []string
	if vm.cfg.Plugin != "" {
		plugin = []string{"-plugin", vm.cfg.Plugin}
	}
	return qemu.All(
		qemu.WithQEMUArgs(plugin...),
		qemu.WithKernel(vm.cfg.Kernel),
		qemu.WithInitramfs(vm.cfg.Initramfs),
		qemu.WithAppendKernel(vm.commandLine(machine, vm.bootArg)),
		machine.options(vm.accel.Accel, vm.cfg.Instructions, vm.cfg.CPUs, vm.cfg.MemoryMiB),
	)
}

func (vm *VM) commandLine(machine Machine, bootArg string) string {
	return strings.Join(append(append([]string{machine.kernelArgs(vm.accel.Accel, vm.cfg.Instructions)}, vm.cfg.Append...), bootArg), " ")
}

// fit sees to it that no machine's command line is longer than the kernel takes,
// which would cut it off without a word: what does not fit of the Boot goes into
// an image of this VM's own.
func (vm *VM) fit() error {
	over := func(bootArg string) int {
		longest := 0
		for _, machine := range vm.platform.machines {
			longest = max(longest, len(vm.commandLine(machine, bootArg))+machine.adds())
		}
		return longest - vm.cfg.CommandLine
	}
	var err error
	if vm.bootArg, err = vm.cfg.Boot.KernelArg(); err != nil || over(vm.bootArg) <= 0 {
		return err
	}
	vm.bootArg = contract.BootFileArg
	if n := over(vm.bootArg); n > 0 {
		return fmt.Errorf("the kernel's command line would be %d bytes longer than the %d that this kernel takes: shorten APPEND", n, vm.cfg.CommandLine)
	}
	data, err := json.Marshal(vm.cfg.Boot)
	if err != nil {
		return fmt.Errorf("encode what the guest shall run: %w", err)
	}
	own := filepath.Join(vm.cfg.Dir, "initramfs.cpio")
	if err := initramfs.Extend(vm.cfg.Initramfs, own, contract.BootFile, data); err != nil {
		return err
	}
	vm.cfg.Initramfs = own
	return nil
}

// withFile passes QEMU a file, whose number replaces %d in args.
func withFile(theirs *os.File, args ...string) qemu.Fn {
	return func(alloc *qemu.IDAllocator, o *qemu.Options) error {
		fd := fmt.Sprint(o.AddFile(theirs))
		for _, arg := range args {
			o.AppendQEMU(strings.ReplaceAll(arg, "%d", fd))
		}
		// QEMU alone has to have it open, so that its death is an end of file.
		o.Tasks = append(o.Tasks, qemu.WaitVMStarted(func(context.Context, *qemu.Notifications) error {
			return theirs.Close()
		}))
		return nil
	}
}

// rawPTY makes a terminal that passes bytes on as they are.
//
// A socket would be simpler, but QEMU writes the console byte by byte, and in a
// socket each takes the room of a packet: 300 of them block, and when that
// lasts for 10 ms the guest's driver drops what it has to send
// (drivers/tty/serial/8250/8250_port.c: wait_for_xmitr).
func rawPTY() (ours, theirs *os.File, err error) {
	ours, theirs, err = pty.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("make QEMU's console: %w", err)
	}
	if _, err := term.MakeRaw(int(theirs.Fd())); err != nil {
		ours.Close()
		theirs.Close()
		return nil, nil, fmt.Errorf("make QEMU's console: %w", err)
	}
	return ours, theirs, nil
}

func socketpair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make QEMU's monitor: %w", err)
	}
	file := os.NewFile(uintptr(fds[0]), "monitor")
	defer file.Close()
	theirs = os.NewFile(uintptr(fds[1]), "QEMU's monitor")
	ours, err = net.FileConn(file)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("make QEMU's monitor: %w", err)
	}
	return ours, theirs, nil
}

// tail keeps the last of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) Close() error { return nil }

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(strings.ReplaceAll(string(t.text), "\r", ""))
}
