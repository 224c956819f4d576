package selftest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// lossless is the default kernel.
func lossless(t *testing.T) *kernel.Result {
	return kernelOf(t, kernel.Spec{Series: []string{"patches/designs/lossless"}})
}

// modular is the default kernel with the subject and its surroundings as modules.
func modular(t *testing.T) *kernel.Result {
	return kernelOf(t, kernel.Spec{Series: []string{"patches/designs/lossless"}, Fragments: []string{"pc", "crash", "modular"}})
}

// without is the modular kernel less one of its modules: to a check, a kernel that
// was built without it.
func without(t *testing.T, module string) *kernel.Result {
	t.Helper()
	k := *modular(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(k.Modules)); err != nil {
		t.Fatal(err)
	}
	found := false
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == module+".ko" {
			found = true
			return os.Remove(path)
		}
		return err
	})
	if err != nil || !found {
		t.Fatalf("take the module %s from %s: found %v, %v", module, k.Modules, found, err)
	}
	k.Modules = dir
	return &k
}

// TestBadInput: what cannot work is refused at once, and the message says
// what to do.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	riscv := make([]byte, 4096)
	copy(riscv[56:], "RSC\x05") // Documentation/arch/riscv/boot-image-header.rst
	occupied := filepath.Join(dir, "occupied")
	if err := os.MkdirAll(filepath.Join(occupied, "something"), 0o755); err != nil {
		t.Fatal(err)
	}
	k := lossless(t)
	for _, tt := range []struct {
		name string
		env  []string
		says []string
	}{
		{"no KERNEL and no default built", []string{"RINGPROOF_CACHE=" + filepath.Join(dir, "cache")}, []string{"no KERNEL given", "make check"}},
		{"missing", []string{"KERNEL=" + filepath.Join(dir, "absent")}, []string{"absent"}},
		{"a directory", []string{"KERNEL=" + dir}, []string{"directory"}},
		{"not a kernel", []string{"KERNEL=" + file("text", strings.Repeat("not a kernel\n", 500))}, []string{"not a"}},
		{"another architecture", []string{"KERNEL=" + file("Image", string(riscv))}, []string{"RISC-V", "x86-64 and arm64"}},
		{"vmlinux", []string{"KERNEL=" + k.Vmlinux}, []string{"bzImage"}},
		{"no such contract", on(k, "CONTRACT=losless"), []string{"losless", "lossless"}},
		{"no such driver", on(k, "DRIVER=vet"), []string{"DRIVER", "vet", "veth", "all"}},
		{"no such accelerator", on(k, "ACCEL=hvf"), []string{"hvf", "tcg"}},
		{"not a number", on(k, "CPUS=many"), []string{"CPUS", "many"}},
		{"no seed", on(k, "SEED=0"), []string{"SEED", "number"}},
		{"no duration", on(k, "FAULTS=long"), []string{"FAULTS", "duration"}},
		{"no replays", on(k, "REPLAYS=0"), []string{"REPLAYS", "number"}},
		{"no such choice", on(k, "SCHEDULES=some"), []string{"SCHEDULES", "all"}},
		{"artifacts of another run", on(k, "ARTIFACTS="+occupied), []string{"not empty", "ARTIFACTS="}},
		{"VMLINUX of another build", on(k, "VMLINUX="+kernelOf(t, kernel.Spec{}).Vmlinux), []string{"another build", "build id"}},
		{"no modules there", on(k, "MODULES="+dir), []string{"odules"}},
		{"QEMU absent", on(k, "PATH="+pathWithout(t, dir, "go")), []string{"qemu-system-x86"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, code := run(t, tt.env, "-run=TestKernel")
			if code == 0 {
				t.Error("exit status 0")
			}
			h.says(tt.says...)
			if strings.Contains(h.out.String(), "kept") {
				t.Errorf("a promise was kept by nothing:\n%s", h.out)
			}
			t.Log(h.out)
		})
	}
}

// pathWithout makes a directory that has these programs and no others.
func pathWithout(t *testing.T, dir string, programs ...string) string {
	t.Helper()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range programs {
		for _, from := range filepath.SplitList(os.Getenv("PATH")) {
			if _, err := os.Stat(filepath.Join(from, name)); err == nil {
				if err := os.Symlink(filepath.Join(from, name), filepath.Join(bin, name)); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
	return bin
}

// costly finds a kernel that takes as long to build as one from nothing, as does
// one of the others after it: the test is not run if nobody has built it.
func costly(t *testing.T, fragment string) *kernel.Result {
	t.Helper()
	fragment = "internal/host/kernel/testdata/" + fragment + ".config"
	k, err := kernel.Find(t.Context(), kernel.Spec{Series: []string{"../patches/designs/lossless"}, Fragments: []string{"../" + fragment}})
	if err != nil {
		t.Fatal(err)
	}
	if k == nil {
		t.Skipf("not run: its kernel is not built; go run ./cmd/ringproof kernel -series patches/designs/lossless -config %s", fragment)
	}
	return k
}

// checkedNothing: no promise was checked, for want of the option, and that is no
// success.
func checkedNothing(t *testing.T, h *harness, code int, option string) {
	t.Helper()
	if code == 0 {
		t.Error("exit status 0, and nothing was checked")
	}
	for _, p := range h.verdict().Promises() {
		if p.Outcome != contract.NotRun {
			t.Errorf("%s: %s", p.Promise, p.Outcome)
		}
	}
	h.says(option)
}

// noFlag is why checks of IFF_BACKPRESSURE are not run on a design without it.
const noFlag = "this kernel lacks IFF_BACKPRESSURE"

// restKept: the checks whose names have that part are not run, for want of the
// option, and the others keep their promises.
func restKept(t *testing.T, h *harness, code int, part, option string) {
	t.Helper()
	if code != 0 {
		t.Errorf("exit status %d:\n%s", code, h.out)
	}
	for _, v := range h.verdict().Verdicts {
		want, says := contract.Kept, ""
		if strings.Contains(v.Why, noFlag) {
			continue
		}
		if strings.Contains(v.Test, part) {
			want, says = contract.NotRun, option
		}
		if v.Outcome != want || !strings.Contains(v.Why, says) {
			t.Errorf("%s: %s %s, %s; want %s", v.Test, v.Promise, v.Outcome, v.Why, want)
		}
	}
	for _, p := range h.verdict().Promises() {
		if p.Outcome == contract.Kept && p.NotRun == 0 {
			t.Errorf("%s: nothing was not run", p.Promise)
		}
	}
}

// TestLackingKernels: a kernel that lacks something gets every check that it
// can have, and what it cannot have is never counted as kept.
func TestLackingKernels(t *testing.T) {
	t.Run("tun", func(t *testing.T) {
		h, code := run(t, on(without(t, "tun")), "-short")
		checkedNothing(t, h, code, "CONFIG_TUN")
	})
	t.Run("BPF", func(t *testing.T) {
		h, code := run(t, on(costly(t, "without-bpf")), "-short", "-run=TestNoTailDrop/sender|TestSchedules/.*/drain-all")
		checkedNothing(t, h, code, "CONFIG_BPF_SYSCALL")
	})
	t.Run("kprobes", func(t *testing.T) {
		h, code := run(t, on(costly(t, "without-kprobes")), "-short", "-run=TestNoTailDrop/sender|TestSchedules/.*/drain-all")
		restKept(t, h, code, "TestSchedules/", "CONFIG_KPROBES")
	})
	t.Run("vhost-net", func(t *testing.T) {
		h, code := run(t, on(without(t, "vhost_net")), "-short", "-run=TestNoTailDrop|TestNoqueueDrops")
		restKept(t, h, code, "vhost", "CONFIG_VHOST_NET")
	})
	t.Run("virtio console", func(t *testing.T) {
		h, code := run(t, on(without(t, "virtio_console")), "-run=TestKernel")
		if code == 0 {
			t.Error("exit status 0")
		}
		h.says("CONFIG_VIRTIO_CONSOLE")
	})
	t.Run("modules", func(t *testing.T) {
		h, code := run(t, on(modular(t)), "-short", withoutReattach)
		if code != 0 {
			t.Errorf("exit status %d:\n%s", code, h.out)
		}
		// Nothing may be left out because it is a module.
		for _, p := range h.verdict().Promises() {
			if p.Promise == contract.RequeueIntact {
				continue // not tried with -short
			}
			if p.Outcome != contract.Kept {
				t.Errorf("%s: %s", p.Promise, p.Outcome)
			}
		}
		for _, v := range h.verdict().Verdicts {
			if v.Outcome == contract.NotRun && !strings.Contains(v.Why, noFlag) {
				t.Errorf("%s: %s not run: %s", v.Test, v.Promise, v.Why)
			}
		}
	})
	t.Run("panic at boot", func(t *testing.T) {
		h, code := run(t, on(lossless(t), "APPEND=rdinit=/absent root=/dev/absent"), "-run=TestKernel")
		if code == 0 {
			t.Error("exit status 0")
		}
		h.says("Kernel panic - not syncing")
	})
}

// TestOtherMachines: what says that a machine is not the right one compiles there, and
// what runs in guests of that architecture does.
func TestOtherMachines(t *testing.T) {
	vet := exec.Command("go", "vet", "./cmd/ringproof", "./vmtests/...", "./inject/...")
	vet.Dir = ".."
	vet.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}
