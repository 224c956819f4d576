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
			Boot: contract.Boot{Argv: []string{initramfs.Program, "-test.run=^$", "-test.bench=^BenchmarkReader$", "-test.benchtime=30000x", "-test.count=7"}},
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
				if rate, ok := r.Value("packets/s"); ok {
					rates[name] = append(rates[name], rate)
				}
			}
		}
	}
	median := func(reader string) float64 {
		all := rates["Reader/"+reader]
		if len(all) == 0 {
			b.Fatalf("the guest measured no reader %q: %v\n%s", reader, rates, said)
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	for _, reader := range []string{"blocking", "epoll"} {
		ratio := median(reader) / median("c")
		b.ReportMetric(ratio, reader+"/c")
		if ratio < 0.95 {
			b.Errorf("%s reads %.0f packets/s, the loop in C %.0f: a ratio of %.2f, want 0.95", reader, median(reader), median("c"), ratio)
		}
	}
}
