package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
)

// fitted is a VM whose -run pattern and APPEND are so long.
func fitted(t *testing.T, pattern, appended int) (*VM, error) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, []byte("image"), 0o644); err != nil {
		t.Fatal(err)
	}
	vm := &VM{platform: &platforms[0], accel: Choice{Accel: TCG}, cfg: Config{
		Kernel: "bzImage", Initramfs: image, Dir: t.TempDir(), CommandLine: defaultCmdline,
		Boot:   contract.Boot{Argv: []string{"/bin/guest.test", "-test.run=" + strings.Repeat("x", pattern)}},
		Append: []string{strings.Repeat("y", appended)},
	}}
	return vm, vm.fit()
}

// TestBootOnTheCommandLine: what the guest is to run is on the kernel's command
// line where it fits, and else in the image; it arrives whole.
func TestBootOnTheCommandLine(t *testing.T) {
	inImage := 0
	for pattern := 0; pattern <= 3000; pattern += 50 {
		vm, err := fitted(t, pattern, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, machine := range []Machine{Microvm, Q35} {
			line := vm.commandLine(machine, vm.bootArg)
			if n := len(line) + machine.adds(); n > defaultCmdline {
				t.Errorf("pattern of %d: %d bytes of a command line on %s", pattern, n, machine)
			}
			boot, err := contract.ParseBoot(line, func(path string) ([]byte, error) {
				if path != "/ringproof.boot" {
					t.Errorf("reads %s", path)
				}
				inImage++
				image, err := os.ReadFile(vm.cfg.Initramfs)
				from, to := strings.Index(string(image), `{"Argv"`), strings.LastIndex(string(image), "}")
				if !strings.HasPrefix(string(image), "image\x00\x00\x00070701") || from < 0 {
					t.Fatalf("not an image with one file more: %q", image)
				}
				return image[from : to+1], err
			})
			if err != nil || len(boot.Argv) != 2 || boot.Argv[1] != vm.cfg.Boot.Argv[1] {
				t.Errorf("pattern of %d: %v, %v", pattern, boot, err)
			}
		}
	}
	if inImage == 0 || inImage == 2*61 {
		t.Errorf("%d of %d are in the image: the test tries one way only", inImage, 2*61)
	}
}

func TestArgumentsThatDoNotFit(t *testing.T) {
	vm, err := fitted(t, 0, 1000)
	if err != nil {
		t.Errorf("%v; command line %q", err, vm.commandLine(Microvm, vm.bootArg))
	}
	if _, err := fitted(t, 0, 2000); err == nil || !strings.Contains(err.Error(), "APPEND") {
		t.Errorf("2000 bytes more: %v; want an error that names APPEND", err)
	}
}
