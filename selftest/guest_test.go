package selftest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// wantMore are tests for what a stock kernel lacks; with "-config inject" it has
// that.
var wantMore = []string{"TestAllocationsFail"}

// TestGuestPackages runs the tests of the guest's own packages where they can
// run: on a stock kernel in a VM.
func TestGuestPackages(t *testing.T) {
	k := kernelOf(t, kernel.Spec{})
	var files []string
	for _, pattern := range []string{"../internal/guest/*/*_test.go", "../internal/guest/driver/*/*_test.go", "../inject/*/*_test.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Fatal("no tests of guest packages")
	}
	var dirs []string
	for _, file := range files {
		dirs = append(dirs, filepath.Dir(file))
	}
	for _, dir := range slices.Compact(dirs) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			image, _, err := initramfs.Build(t.Context(), initramfs.Options{Package: "." + strings.TrimPrefix(dir, ".."), Dir: ".."})
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			guest, err := vm.Start(context.Background(), vm.Config{
				Kernel: k.Image, Initramfs: image, Dir: t.TempDir(), Output: &out, Progress: os.Stderr,
				Boot: contract.Boot{Argv: []string{initramfs.Program, "-test.v"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			result, err := guest.Wait()
			if err != nil || !result.Passed() {
				t.Errorf("%v, %v\n%s", result, err, out.String())
				for _, r := range result.Reports {
					t.Errorf("the kernel reported %s", r.Text)
				}
			}
			ran := out.String()
			for _, test := range wantMore {
				ran = strings.ReplaceAll(ran, "--- SKIP: "+test, "left out: "+test)
			}
			if !strings.Contains(ran, "--- PASS") || strings.Contains(ran, "--- SKIP") {
				t.Errorf("not every test ran:\n%s", out.String())
			}
		})
	}
}
