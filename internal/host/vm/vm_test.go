package vm

import (
	"os"
	"testing"
	"time"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/contract"
)

func TestQuick(t *testing.T) {
	image, _, err := initramfs.Build(t.Context(), initramfs.Options{Package: "./testguest"})
	if err != nil {
		t.Fatal(err)
	}
	v, err := Start(t.Context(), Config{Kernel: os.Getenv("KERNEL"), Initramfs: image, Dir: t.TempDir(),
		Boot: contract.Boot{Argv: []string{initramfs.Program, "-test.v"}}, Output: os.Stdout, Progress: os.Stdout, Deadline: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Wait()
	t.Logf("%v %+v %v", r, r, err)
}
