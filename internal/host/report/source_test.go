package report

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/srcline"
)

// TestLocate: the lines of a window are marked, those of both sides of a pair, and a
// vmlinux of another build is refused.
func TestLocate(t *testing.T) {
	dir := t.TempDir()
	file, binary := filepath.Join(dir, "init", "main.c"), filepath.Join(dir, "vmlinux")
	text := "int head, tail;\n__attribute__((noinline)) int produce(int n)\n{\n\thead += n;\n\treturn head - tail;\n}\n" +
		"__attribute__((noinline)) int consume(int n)\n{\n\ttail += n;\n\treturn tail;\n}\nint main(int n, char **v) { return produce(n) + consume(n); }\n"
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	gcc := exec.Command("gcc", "-O0", "-g", "-no-pie", "-o", binary, file)
	gcc.Dir = dir
	if out, err := gcc.CombinedOutput(); err != nil {
		t.Skipf("not run: gcc: %v\n%s", err, out)
	}
	lines, err := srcline.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	image, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	symbols, err := image.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	var produce elf.Symbol
	for _, s := range symbols {
		if s.Name == "produce" {
			produce = s
		}
	}
	f := schedule(contract.NoTailDrop, "producer", "produce+0x0&consume+0x0/ring=1/fq_codel", 0, 0)
	f.From.Addr, f.To.Addr = produce.Value, produce.Value+produce.Size-1
	if err := f.Locate(lines); err != nil {
		t.Fatal(err)
	}
	if len(f.Source) != 2 || f.Source[0].Function != "produce" || f.Source[1].Function != "consume" {
		t.Fatalf("located in %v", f.Source)
	}
	shown := causesOf(f)[0].text(1)
	for _, says := range []string{
		"init/main.c, produce, where the producer is held up:\n",
		"    >     3 {\n          4 \thead += n;\n          5 \treturn head - tail;\n    >     6 }\n",
		"init/main.c, consume, where the consumer is held up:\n",
		"    >     8 {\n",
	} {
		if !strings.Contains(shown, says) {
			t.Errorf("%s\ndoes not say %q", shown, says)
		}
	}
	f.From.Addr++
	if err := f.Locate(lines); err == nil || !strings.Contains(err.Error(), "of another build") {
		t.Errorf("a vmlinux of another build: %v", err)
	}
}
