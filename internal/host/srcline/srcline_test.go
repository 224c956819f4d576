package srcline

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const program = `volatile int stopped;
static inline __attribute__((always_inline)) void stop(int why)
{
	stopped = why;
}
__attribute__((noinline)) int outer(int n)
{
	if (n > 3)
		stop(n);
	return n;
}
int main(int argc, char **argv) { return outer(argc); }
`

// compile returns a program with line tables in a tree that is as a kernel's.
func compile(t *testing.T) (binary, source string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "init"), 0o755); err != nil {
		t.Fatal(err)
	}
	binary, source = filepath.Join(dir, "vmlinux"), filepath.Join(dir, "init", "main.c")
	if err := os.WriteFile(source, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("gcc", "-O2", "-g", "-no-pie", "-o", binary, source)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Skipf("not run: gcc: %v\n%s", err, out)
	}
	return binary, source
}

func TestAt(t *testing.T) {
	binary, _ := compile(t)
	lines, err := Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	inlined := false
	for _, s := range symbols {
		if s.Name != "outer" {
			continue
		}
		for addr := s.Value; addr < s.Value+s.Size; addr++ {
			frames, err := lines.At(addr)
			if err != nil {
				t.Fatal(err)
			}
			last := frames[len(frames)-1]
			if last.Function != "outer" || last.File != "init/main.c" {
				t.Errorf("%#x is in %v, want outer", addr, frames)
			}
			if len(frames) == 2 && frames[0].Function == "stop" {
				inlined = true
				if frames[0].Line != 4 || last.Line != 9 {
					t.Errorf("%#x is in %v, want lines 4 and 9", addr, frames)
				}
				if text, ok := lines.Read(frames[0].File); !ok || text != program {
					t.Errorf("the source of %v: %q, %v", frames[0], text, ok)
				}
			}
		}
	}
	if !inlined {
		t.Error("the function that was inlined is nowhere")
	}
	if _, err := lines.At(1); err == nil {
		t.Error("an address outside of the program has a line")
	}
}

// TestSourceIsOfTheBuild: where it is not known what the source was, no line is
// shown. A copy of a vmlinux has a time of its own.
func TestSourceIsOfTheBuild(t *testing.T) {
	binary, source := compile(t)
	dir := filepath.Dir(binary)
	elsewhere := filepath.Join(t.TempDir(), "vmlinux")
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	linked := filepath.Join(t.TempDir(), "tree")
	if err := errors.Join(os.WriteFile(elsewhere, text, 0o644), os.Symlink(dir, linked)); err != nil {
		t.Fatal(err)
	}
	built, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, vmlinux string
		edited        time.Duration // after the build
		shown         bool
	}{
		{"as built", binary, -time.Minute, true},
		{"as built, through a link", filepath.Join(linked, "vmlinux"), -time.Minute, true},
		{"edited since", binary, time.Second, false},
		{"a copy", elsewhere, -time.Minute, false},
		{"a copy, and edited before it was made", elsewhere, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := built.ModTime().Add(tt.edited)
			if err := os.Chtimes(source, at, at); err != nil {
				t.Fatal(err)
			}
			lines, err := Open(tt.vmlinux)
			if err != nil {
				t.Fatal(err)
			}
			defer lines.Close()
			if got, ok := lines.Read("init/main.c"); ok != tt.shown || ok && got != program {
				t.Errorf("read: %q, %v", got, ok)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	bare := filepath.Join(t.TempDir(), "bare")
	binary, _ := compile(t)
	if out, err := exec.Command("strip", "-o", bare, binary).CombinedOutput(); err != nil {
		t.Skipf("not run: strip: %v\n%s", err, out)
	}
	for _, path := range []string{"/absent", bare} {
		lines, err := Open(path)
		if err == nil {
			if _, err = lines.At(0x401000); err == nil {
				t.Errorf("%s has lines", path)
			}
			continue
		}
		if !strings.Contains(err.Error(), "VMLINUX") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A vmlinux is told by its build id, whatever other notes there are.
func TestSameBuild(t *testing.T) {
	build := func(id string) string {
		t.Helper()
		dir := t.TempDir()
		c, binary := filepath.Join(dir, "main.c"), filepath.Join(dir, "vmlinux")
		if err := os.WriteFile(c, []byte(program), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("gcc", "-Wl,--build-id="+id, "-o", binary, c).CombinedOutput(); err != nil {
			t.Skipf("not run: gcc: %v\n%s", err, out)
		}
		return binary
	}
	note := func(name string, kind byte, desc string) string {
		pad := func(s string) string { return s + strings.Repeat("\x00", -len(s)&3) }
		return string([]byte{byte(len(name)), 0, 0, 0, byte(len(desc)), 0, 0, 0, kind, 0, 0, 0}) + pad(name) + pad(desc)
	}
	given, none := build("0x0102030405"), build("none")
	other := note("Linux\x00", 1, "\x00") + note("Xen\x00", 3, "\x01\x02\x03\x04\x05")
	for _, c := range []struct {
		name, vmlinux, notes string
		differ               bool
	}{
		{"same", given, other + note("GNU\x00", 3, "\x01\x02\x03\x04\x05"), false},
		{"another", given, other + note("GNU\x00", 3, "\x01\x02\x03\x04\x06"), true},
		{"a kernel without", given, other, false},
		{"a kernel without notes", given, "", false},
		{"notes that are cut off", given, note("GNU\x00", 3, "\x01\x02\x03\x04\x06")[:17], false},
		{"a vmlinux without", none, note("GNU\x00", 3, "\x01\x02\x03\x04\x06"), false},
	} {
		err := SameBuild(c.vmlinux, []byte(c.notes))
		if (err != nil) != c.differ {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "0102030405") || !strings.Contains(err.Error(), "0102030406")) {
			t.Errorf("%s: %v; want both build ids", c.name, err)
		}
	}
}
