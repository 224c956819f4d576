package profile

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ringproof/ringproof/internal/host/vm"
)

// TestCountsExactly has QEMU run a program whose instructions can be counted by hand.
func TestCountsExactly(t *testing.T) {
	p, err := Build(t.Context())
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	guest := filepath.Join(dir, "guest")
	out, err := exec.Command("gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x100000,--build-id=none,-z,noexecstack", "-o", guest, "testdata/guest.S").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "profile.entries"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	said, err := vm.AskQEMU(t.Context(), "-M", "pc", "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-nodefaults", "-display", "none",
		"-no-reboot", "-device", "isa-debug-exit,iobase=0xf4", "-kernel", guest, "-plugin", escape(p.path)+",dir="+escape(dir))
	got, readErr := new(Kernel).Read(File(dir, 1))
	if readErr != nil {
		t.Fatalf("%v; QEMU ended with %v: %s", readErr, err, said)
	}
	want := []Line{
		{"producer", User, 2 + 2 + 101 + 1, 0},
		{"other", User, 2 + 1 + 9*10 + 1, 30},
	}
	if !slices.Equal(got.Lines, want) {
		t.Errorf("counted %+v, want %+v", got.Lines, want)
	}
}
