package selftest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/apt"
	"github.com/ringproof/ringproof/internal/host/cache"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// TestARM64 has a distribution's kernel for arm64 judged in an emulated machine, with its
// modules: packets are dropped and counted, and interleavings are forced. It is Debian's,
// because to compile one takes too long here.
func TestARM64(t *testing.T) {
	if err := kernel.CheckHost("arm64"); err != nil {
		t.Skip(err)
	}
	if missing := vm.MissingPackages("arm64"); missing != nil {
		t.Skipf("QEMU for arm64 is missing (apt install %s)", missing[0])
	}
	pkg := debianKernel(t, "arm64", regexp.MustCompile(`^linux-image-6\.[0-9.]+.*-cloud-arm64(-unsigned)?$`))
	image, modules := only(t, pkg, "boot/vmlinuz-*"), only(t, pkg, "lib/modules/*")
	h, code := run(t, []string{"KERNEL=" + image, "MODULES=" + modules, "CONTRACT=stock"}, "-short",
		"-run=^Test(Kernel|NoqueueDrops|Schedules)$/^(tap|tun_net_xmit)$/^(1q|drain-all)$/^(noqueue|ring=2)$/^(len1|fq_codel)$")
	if code != 0 {
		t.Fatalf("exit status %d:\n%s", code, h.out)
	}
	kept := make(map[contract.Promise]int)
	r := h.verdict()
	for _, v := range r.Verdicts {
		if v.Outcome == contract.Kept {
			kept[v.Promise]++
		}
	}
	if r.Arch != "arm64" || kept[contract.NoqueueDrops] == 0 || kept[contract.NoStall] < 2 {
		t.Errorf("on %s the checks kept %v:\n%s", r.Arch, kept, h.out)
	}

	// It has no backpressure, so it must not keep what that promises.
	h, code = run(t, []string{"KERNEL=" + image, "MODULES=" + modules, "CONTRACT=lossless"},
		"-run=^TestSchedules$/^tun_net_xmit$/^second-fills$/^ring=2$/^fq_codel$")
	if code != 1 {
		t.Errorf("exit status %d:\n%s", code, h.out)
	}
	for _, p := range h.verdict().Promises() {
		if p.Promise == contract.NoTailDrop && p.Outcome != contract.Broken {
			t.Errorf("%s: %s:\n%s", p.Promise, p.Outcome, h.out)
		}
	}
}

// debianKernel gets the last package of Debian's for an architecture whose name matches,
// unless it is in the cache, and returns where it is unpacked.
func debianKernel(t *testing.T, arch string, name *regexp.Regexp) string {
	t.Helper()
	lock, err := cache.Acquire(t.Context(), "Debian's packages", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	state, err := cache.Dir("sources", "debian", "apt-"+arch)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := func(err error) {
		t.Helper()
		if errors.Is(err, apt.ErrNoDebian) || err != nil && apt.Unreachable(err) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	client, err := apt.Open(t.Context(), state, arch, lock.File(), os.Stderr)
	elsewhere(err)
	found, _, err := client.Find(t.Context(), "", "linux-image-6.", func(all []apt.Package) (last *apt.Package) {
		for _, p := range all {
			if name.MatchString(p.Name) {
				last = &p
			}
		}
		return last
	})
	elsewhere(err)
	if found == nil {
		t.Skipf("Debian's archive has no package like %v", name)
	}
	dir, err := cache.Dir("packages", arch)
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, found.Name+"_"+found.Version)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	deb, err := client.Download(t.Context(), *found, t.TempDir())
	elsewhere(err)
	err = cache.Publish(dir, func(tmp string) error {
		out, err := exec.Command("dpkg-deb", "--extract", deb, tmp).CombinedOutput()
		if err != nil {
			return fmt.Errorf("unpack %s: %w\n%s", deb, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// only returns the one file of a directory that matches.
func only(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s has %v, not one %s (%v)", dir, found, pattern, err)
	}
	return found[0]
}
