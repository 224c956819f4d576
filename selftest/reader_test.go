package selftest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/vm"
	"golang.org/x/perf/benchfmt"
)

// BenchmarkReader runs traffic's BenchmarkReader in a VM and sets each of our
// readers against the loop in C: a consumer that reads more slowly than
// programs do would find fewer races, and blame the kernel for its own pace.
//
// There is no bound: on a busy machine the ratio of a single pair is anything
// from a third to three. docs/design.md has what was measured.
func BenchmarkReader(b *testing.B) {
	k, err := kernel.Build(context.Background(), kernel.Spec{}, os.Stderr)
	if err != nil {
		b.Fatal(err)
	}
	loop := filepath.Join(b.TempDir(), "readloop")
	if out, err := exec.Command("gcc", "-O2", "-static", "-o", loop, "../internal/guest/traffic/testdata/readloop.c").CombinedOutput(); err != nil {
		b.Fatalf("gcc: %v\n%s", err, out)
	}
	image, _, err := initramfs.Build(context.Background(), initramfs.Options{
		Package: "./internal/guest/traffic", Dir: "..", Files: map[string]string{"/bin/readloop": loop},
	})
	if err != nil {
		b.Fatal(err)
	}
	rates, said := map[string][]float64{}, ""
	for b.Loop() {
		var out strings.Builder
		guest, err := vm.Start(context.Background(), vm.Config{
			Kernel: k.Image, Initramfs: image, Dir: b.TempDir(), Output: &out, Progress: os.Stderr,
			Boot: contract.Boot{Argv: []string{initramfs.Program, "-test.run=^$", "-test.bench=^BenchmarkReader$", "-test.benchtime=30000x"}},
		})
		if err != nil {
			b.Fatal(err)
		}
		if result, err := guest.Wait(); err != nil || !result.Passed() {
			b.Fatalf("%v, %v\n%s", result, err, out.String())
		}
		said = out.String()
		results := benchfmt.NewReader(strings.NewReader(out.String()), "guest")
		for results.Scan() {
			if r, ok := results.Result().(*benchfmt.Result); ok {
				name, _, _ := strings.Cut(r.Name.String(), "-")
				reader := name[strings.LastIndex(name, "/")+1:] // Reader/ROUND/c
				if rate, ok := r.Value("packets/s"); ok {
					rates[reader] = append(rates[reader], rate)
				}
			}
		}
	}
	c := rates["c"]
	for _, reader := range []string{"blocking", "epoll"} {
		ours := rates[reader]
		if len(ours) == 0 || len(ours) != len(c) {
			b.Fatalf("the guest did not measure each reader as often: %v\n%s", rates, said)
		}
		// What is compared ran side by side.
		ratios := make([]float64, len(c))
		for i := range c {
			ratios[i] = ours[i] / c[i]
		}
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)/2], reader+"/c")
	}
}
