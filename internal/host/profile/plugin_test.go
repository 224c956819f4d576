package profile

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/host/vm"
)

// TestBuildSaysWhatIsLacking takes away what the plugin needs.
func TestBuildSaysWhatIsLacking(t *testing.T) {
	qemu := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(qemu, []byte("#!/bin/sh\necho \"$0: -plugin: invalid option\" >&2\nexit 1\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Run("QEMU", func(t *testing.T) {
		if _, err := exec.LookPath("gcc"); err != nil {
			t.Skip(err)
		}
		t.Setenv("QEMU", qemu)
		if _, err := Build(t.Context()); err == nil || !strings.Contains(err.Error(), "-plugin: invalid option") {
			t.Errorf("a QEMU without plugins: %v", err)
		}
	})
	t.Run("gcc", func(t *testing.T) {
		t.Setenv("RINGPROOF_CACHE", filepath.Join(t.TempDir(), "cache"))
		t.Setenv("PATH", t.TempDir())
		if _, err := Build(t.Context()); !errors.Is(err, exec.ErrNotFound) {
			t.Errorf("without gcc: %v", err)
		}
	})
}

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
	got, readErr := new(Kernel).Take(dir, 1)
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
