package selftest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/hugelgupf/vmtest/govmtest"
	"github.com/hugelgupf/vmtest/qemu"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// BenchmarkStart times a trivial test in a VM on the same kernel, from the
// command until its first test has run, side by side with vmtest's own runner.
// Both are warm, and neither uses KVM. The kernel is one with PCI and 9p, which
// vmtest's runner needs.
func BenchmarkStart(b *testing.B) {
	k, err := kernel.Build(context.Background(), kernel.Spec{Series: []string{"../patches/designs/lossless"}, Fragments: []string{"pc"}}, os.Stderr)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("ringproof", func(b *testing.B) {
		started := func() time.Duration {
			began := time.Now()
			h := start(b, on(k, "ACCEL=tcg"), "-run=^TestKernel$")
			h.until(`"Action":"pass","Test":"TestKernel"`)
			first := time.Since(began)
			if code := h.wait(); code != 0 {
				b.Fatalf("exit status %d:\n%s", code, h.out)
			}
			if err := os.RemoveAll(h.dir); err != nil {
				b.Fatal(err)
			}
			return first
		}
		started() // fills the caches
		b.ResetTimer()
		var total time.Duration
		for range b.N {
			total += started()
		}
		b.ReportMetric(total.Seconds()/float64(b.N), "s/first-test")
	})
	b.Run("govmtest", func(b *testing.B) {
		b.Setenv("VMTEST_QEMU", "qemu-system-x86_64 -cpu max -smp 4 -m 1024")
		b.Setenv("VMTEST_KERNEL", k.Image)
		b.Setenv("VMTEST_KERNEL_APPEND", "console=ttyS0 quiet")
		started := func() time.Duration {
			began := time.Now()
			govmtest.Run(b, "trivial", govmtest.WithPackageToTest("github.com/ringproof/ringproof/selftest/trivial"), govmtest.WithQEMUFn(qemu.WithVMTimeout(3*time.Minute)))
			return time.Since(began)
		}
		started()
		b.ResetTimer()
		var total time.Duration
		for range b.N {
			total += started()
		}
		b.ReportMetric(total.Seconds()/float64(b.N), "s/first-test")
	})
}
