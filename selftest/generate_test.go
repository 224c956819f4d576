package selftest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// clang is the version that compiled what is kept. Another one may lawfully
// make something else of the same source.
const clang = "14.0.6"

// TestGenerated: the eBPF program that is kept is what its source says.
func TestGenerated(t *testing.T) {
	version, err := exec.Command("clang", "--version").Output()
	if err != nil {
		t.Skip("not run: no clang at hand: ", err)
	}
	if !strings.Contains(string(version), clang) {
		t.Skipf("not run: the program was compiled by clang %s, here is %s", clang, version)
	}
	if _, err := os.Stat("/usr/include/bpf/bpf_helpers.h"); err != nil {
		t.Skip("not run: no libbpf-dev at hand: ", err)
	}
	gen, err := os.ReadFile("../inject/breakpoint/gen.go")
	if err != nil {
		t.Fatal(err)
	}
	_, command, found := strings.Cut(string(gen), "//go:generate go tool bpf2go ")
	if !found {
		t.Fatal("inject/breakpoint/gen.go does not say how the program is made")
	}
	dir := t.TempDir()
	generate := exec.Command("sh", "-c", "go tool bpf2go -output-dir "+dir+" "+command)
	generate.Dir = "../inject/breakpoint"
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"pause_x86_bpfel.go", "pause_x86_bpfel.o"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(filepath.Join("../inject/breakpoint", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("inject/breakpoint/%s is not what its source says; go generate ./inject/breakpoint makes it", name)
		}
	}
}
