package vm

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/host/cache"
)

func needKernel(t *testing.T) string {
	t.Helper()
	kernel := os.Getenv("KERNEL")
	if kernel == "" {
		t.Skip("needs a kernel to boot: set KERNEL to the path of a bzImage")
	}
	return kernel
}

func TestKVMThatIsNotThere(t *testing.T) {
	unreadable := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(unreadable, nil, 0); err != nil {
		t.Fatal(err)
	}
	for _, device := range []struct{ name, path, says string }{
		{"absent", filepath.Join(t.TempDir(), "kvm"), "does not exist"},
		{"unreadable", unreadable, "group kvm"},
	} {
		t.Run(device.name, func(t *testing.T) {
			if device.name == "unreadable" {
				asNobody(t)
			}
			k := kvmDevice{path: device.path, platform: &platforms[0], cpu: "max"}
			choice, err := k.choose(t.Context(), Auto, "no kernel is booted")
			if err != nil || choice.Accel != TCG || !strings.Contains(choice.Reason, device.says) {
				t.Errorf("auto: %+v, %v; want TCG because it %s", choice, err, device.says)
			}
			_, err = k.choose(t.Context(), KVM, "no kernel is booted")
			if err == nil || !strings.Contains(err.Error(), "ACCEL=kvm: ") || !strings.Contains(err.Error(), device.says) {
				t.Errorf("kvm: %v; want an error that says %q", err, device.says)
			}
		})
	}
}

// asNobody gives up root's right to open every file, in this thread.
func asNobody(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	const nobody = 65534
	// setfsuid(2) drops CAP_DAC_OVERRIDE too, and for this thread alone.
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() {
		syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0)
		runtime.UnlockOSThread()
	})
}

// Whatever this machine's KVM is worth: what is chosen has to boot, and to be
// remembered.
func TestChoiceBoots(t *testing.T) {
	kernel := needKernel(t)
	for _, cpu := range []string{"max", "qemu64"} {
		t.Run(cpu, func(t *testing.T) {
			t.Setenv(cache.Env, t.TempDir())
			k := kvmDevice{path: "/dev/kvm", platform: &platforms[0], cpu: cpu, memoryMiB: 128}
			first, err := k.choose(t.Context(), Auto, kernel)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", first)
			q, err := openQEMU(t.Context(), &platforms[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := k.prints(t.Context(), q, kernel, first.Accel, tcgTime); err != nil {
				t.Errorf("%s was chosen, but %v", first.Accel, err)
			}
			if first.Accel == TCG {
				if err := k.prints(t.Context(), q, kernel, KVM, kvmTime); err == nil {
					t.Errorf("KVM was refused, but a kernel boots with it: %s", first.Reason)
				}
			}
			_, err = k.choose(t.Context(), KVM, kernel)
			if (err == nil) != (first.Accel == KVM) {
				t.Errorf("auto chose %s, but kvm says %v", first.Accel, err)
			}
			begin := time.Now()
			if again, err := k.choose(t.Context(), Auto, "no kernel is booted"); err != nil || again.Accel != first.Accel {
				t.Errorf("then %+v, %v", again, err)
			}
			if took := time.Since(begin); took > 100*time.Millisecond {
				t.Errorf("not remembered: took %v", took)
			}
		})
	}
}

func TestKernelThatPrintsNothingIsNotBlamedOnKVM(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		t.Skip("needs a /dev/kvm, whatever it is worth")
	}
	t.Setenv(cache.Env, t.TempDir())
	kernel := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(kernel, make([]byte, 9000), 0o644); err != nil {
		t.Fatal(err)
	}
	choice, err := Choose(t.Context(), Auto, "", kernel, 128)
	if err != nil || choice.Accel != TCG || !strings.Contains(choice.Reason, "not known") {
		t.Errorf("%+v, %v", choice, err)
	}
	// Of this kernel it is remembered, and of no other.
	began := time.Now()
	choice, err = Choose(t.Context(), Auto, "", kernel, 128)
	if took := time.Since(began); err != nil || choice.Accel != TCG || !strings.Contains(choice.Reason, "found earlier with this kernel") || took > kvmTime/2 {
		t.Errorf("the second time, after %v: %+v, %v", took, choice, err)
	}
	another := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(another, make([]byte, 9001), 0o644); err != nil {
		t.Fatal(err)
	}
	choice, err = Choose(t.Context(), Auto, "", another, 128)
	if err != nil || strings.Contains(choice.Reason, "earlier") {
		t.Errorf("of another kernel: %+v, %v", choice, err)
	}
}

func TestUnknownAccelerator(t *testing.T) {
	if _, err := Choose(t.Context(), "xen", "", "", 128); err == nil || !strings.Contains(err.Error(), "auto, kvm, tcg") {
		t.Errorf("error %v does not say what is known", err)
	}
}

func TestAcceleratorOfAnotherArchitecture(t *testing.T) {
	choice, err := Choose(t.Context(), Auto, "arm64", "no kernel is booted", 128)
	if err != nil || choice.Accel != TCG || !strings.Contains(choice.Reason, "this one is for arm64") {
		t.Errorf("auto: %+v, %v", choice, err)
	}
	if choice, err := Choose(t.Context(), KVM, "arm64", "no kernel is booted", 128); err == nil {
		t.Errorf("kvm: %+v", choice)
	}
}
