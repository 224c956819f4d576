package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/hugelgupf/vmtest/qemu"
	"golang.org/x/sys/unix"
)

// Accel is how QEMU executes the guest's instructions.
type Accel string

const (
	// Auto is KVM if it is proven to work, else TCG.
	Auto Accel = "auto"
	// KVM executes them on the host's CPU.
	KVM Accel = "kvm"
	// TCG translates them. It works everywhere, some ten times slower.
	TCG Accel = "tcg"
)

// Choice is an accelerator that works here, and why it was chosen.
type Choice struct {
	Accel  Accel // KVM or TCG
	Reason string
}

// Choose finds out which accelerator to use. "" is Auto. It fails if KVM is
// wanted and does not work.
//
// That /dev/kvm can be opened proves nothing, not even that firmware prints in
// the end: a host may emulate some instructions very slowly and never get to
// others. So KVM has to boot the kernel until that prints. The outcome is
// remembered until the machine is rebooted.
//
// KVM executes guests of the machine's own architecture. arch is the guest's, as Go
// calls it; "" is amd64.
func Choose(ctx context.Context, want Accel, arch, kernel string, memoryMiB int) (Choice, error) {
	return kvmDevice{path: "/dev/kvm", platform: platformOf(arch), cpu: "max", memoryMiB: memoryMiB}.choose(ctx, want, kernel)
}

// kvmDevice is KVM as it is on this machine. Tests use other values.
type kvmDevice struct {
	path     string
	platform *platform
	cpu      string // QEMU's CPU model
	// memoryMiB is what the guest will have: a kernel with KASAN does not
	// print before it has found room for its shadow.
	memoryMiB int
}

func (k kvmDevice) choose(ctx context.Context, want Accel, kernel string) (Choice, error) {
	switch want {
	case TCG:
		return Choice{TCG, "asked for"}, nil
	case KVM, Auto, "":
	default:
		return Choice{}, fmt.Errorf("unknown accelerator %q: ACCEL must be one of %s, %s, %s", want, Auto, KVM, TCG)
	}
	err := k.prove(ctx, kernel)
	switch {
	case err == nil:
		return Choice{KVM, "proven to execute a guest"}, nil
	case ctx.Err() != nil:
		return Choice{}, ctx.Err()
	case want == KVM:
		return Choice{}, fmt.Errorf("ACCEL=kvm: %w", err)
	default:
		return Choice{TCG, "KVM does not work here: " + err.Error()}, nil
	}
}

// prove returns nil if a guest executes with KVM, else what is wrong.
func (k kvmDevice) prove(ctx context.Context, kernel string) error {
	if string(k.platform.arch) != runtime.GOARCH {
		return fmt.Errorf("it executes guests of the machine's own architecture, %s, and this one is for %s", runtime.GOARCH, k.platform.arch)
	}
	// Whether it can be opened is quick to see, and may change.
	device, err := os.OpenFile(k.path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist: load kvm_intel or kvm_amd, which needs virtualization enabled in the firmware, or nested virtualization if this machine is virtual", k.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to open %s: add yourself to group kvm (sudo usermod -a -G kvm $USER) and log in again", k.path)
	case err != nil:
		return err
	}
	var stat unix.Stat_t
	err = unix.Fstat(int(device.Fd()), &stat)
	device.Close()
	if err != nil {
		return fmt.Errorf("stat %s: %w", k.path, err)
	}

	q, err := openQEMU(ctx, k.platform)
	if err != nil {
		return err
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("identify this boot: %w", err)
	}
	where, err := newProbe("accel", "kernel prints", string(bootID), fmt.Sprint(stat.Rdev), k.cpu, q.identity())
	if err != nil {
		return err
	}
	const works = "works"
	verdict, known := where.recall()
	if !known {
		verdict = works
		// A kernel that prints nothing at all says nothing about KVM, and
		// would be waited for again by each VM.
		content, err := contentOf(kernel)
		if err != nil {
			return err
		}
		mute, err := newProbe("accel", "mute", string(bootID), content, fmt.Sprint(k.memoryMiB), k.cpu, q.identity())
		if err != nil {
			return err
		}
		if why, known := mute.recall(); known {
			return fmt.Errorf("%s (found earlier with this kernel; remove %s to try again)", why, mute)
		}
		if err := k.boots(ctx, q, kernel); err != nil {
			if ctx.Err() != nil {
				return err
			}
			if errors.Is(err, errUnknown) {
				return errors.Join(err, mute.remember(err.Error()))
			}
			verdict = err.Error()
		}
		if err := where.remember(verdict); err != nil {
			return err
		}
	}
	switch {
	case verdict == works:
		return nil
	case known:
		return fmt.Errorf("%s (found earlier; remove %s to try again)", verdict, where)
	}
	return errors.New(verdict)
}

// errUnknown says that it is not KVM's fault, or not known to be.
var errUnknown = errors.New("whether it works is not known")

const (
	// kvmTime is how long a kernel may take with KVM to print its first line;
	// it takes some 0.3 s.
	kvmTime = 5 * time.Second
	// tcgTime is the same without; it takes some 0.6 s on an idle host.
	tcgTime = 20 * time.Second
)

// boots returns nil if the kernel boots with KVM. If it does not, it has to
// boot without, to show that it is KVM that is to blame.
func (k kvmDevice) boots(ctx context.Context, q program, kernel string) error {
	err := k.prints(ctx, q, kernel, KVM, kvmTime)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if tcg := k.prints(ctx, q, kernel, TCG, tcgTime); tcg != nil {
		return fmt.Errorf("%w: %v, and without KVM either: %w; is %s a kernel for this machine, with %s?", errUnknown, err, tcg, kernel, k.platform.serial)
	}
	return fmt.Errorf("%s can be opened, but no guest boots with it: %w", k.path, err)
}

// prints boots a kernel until it prints its first line.
func (k kvmDevice) prints(ctx context.Context, q program, kernel string, accel Accel, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	machine := q.machinesOf(k.platform)[0]
	o, err := qemu.OptionsFor(k.platform.arch,
		qemu.WithKernel(kernel), qemu.WithAppendKernel(machine.earlyConsole()),
		machine.options(accel, false, 1, k.memoryMiB),
		qemu.WithQEMUArgs("-cpu", k.cpu, "-serial", "stdio"))
	if err != nil {
		return fmt.Errorf("configure QEMU: %w", err)
	}
	said := &tail{}
	linux := &finder{text: "Linux version ", found: make(chan struct{})}
	o.VMTimeout = 0
	o.SerialOutput = []io.WriteCloser{said, linux}
	vm, err := launch(ctx, q, o)
	if err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- vm.Wait() }()
	select {
	case <-linux.found:
		cancel()
		<-exited
		return nil
	case err = <-exited:
	case <-ctx.Done():
		err = <-exited
	}
	if ctx.Err() != nil {
		return fmt.Errorf("the kernel printed nothing within %v", patience)
	}
	return fmt.Errorf("QEMU failed (%v): %s", err, strings.ReplaceAll(said.String(), "\n", "; "))
}

// finder closes found when text has been written to it.
type finder struct {
	text  string
	seen  []byte
	found chan struct{}
	done  bool
}

func (f *finder) Write(p []byte) (int, error) {
	if !f.done {
		f.seen = append(f.seen, p...)
		if bytes.Contains(f.seen, []byte(f.text)) {
			f.done = true
			close(f.found)
		}
	}
	return len(p), nil
}

func (f *finder) Close() error { return nil }
