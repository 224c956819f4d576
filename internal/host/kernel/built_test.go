package kernel

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// publishVmlinux puts a kernel into the cache that was built of a source with a
// series, as far as FindSource looks at it.
func publishVmlinux(t *testing.T, id, sourceDir string, seriesPaths ...string) (vmlinux string) {
	t.Helper()
	ctx := t.Context()
	src, err := openSource(ctx, sourceDir, true, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.identity(ctx); err != nil {
		t.Fatal(err)
	}
	lock, err := cache.Acquire(ctx, src.name(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	tr, err := openTree(ctx, src, lock, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	series, err := readSeries(ctx, seriesPaths, 0, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := tr.apply(ctx, src, series)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.checkout(ctx, src, patched); err != nil {
		t.Fatal(err)
	}
	o := &objects{tree: tr, dir: t.TempDir()}
	files{targetArch().image: "x", ".config": "x", "include/config/kernel.release": "6.12.0\n", "main.c": "int main(void) { return 0; }\n"}.write(t, o.dir)
	if out, err := exec.Command("gcc", "-Wl,--build-id=0x"+id, "-o", filepath.Join(o.dir, "vmlinux"), filepath.Join(o.dir, "main.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	root, err := cache.Dir("kernels")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, id)
	if err := o.publish(ctx, dir, &Description{}); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, vmlinuxFile)
}

// TestSourceOfABuiltKernel: the lines beside a finding are those of the kernel's
// own series, whatever the source's copy holds by then, and wherever its vmlinux
// was copied to.
func TestSourceOfABuiltKernel(t *testing.T) {
	isolate(t)
	for kind, make := range sources {
		t.Run(kind, func(t *testing.T) {
			source, id := make(t), hex.EncodeToString([]byte(kind))
			one := place(t, files{"1.diff": first})
			vmlinux := publishVmlinux(t, id+"01", source, one)
			other := publishVmlinux(t, id+"02", source, place(t, files{"2.diff": change(tun, 8, "tun line 8", "other")}))
			copied := filepath.Join(t.TempDir(), "vmlinux")
			if err := copyFile(vmlinux, copied); err != nil {
				t.Fatal(err)
			}
			for _, tt := range []struct{ vmlinux, file, want string }{
				{vmlinux, tun, edit(tun, 8, "first")},
				{copied, tun, edit(tun, 8, "first")},
				{other, tun, edit(tun, 8, "other")},
				{copied, "include/ring.h", tinyKernel["include/ring.h"]},
				{copied, "include/none.h", ""},
				{copied, "../../etc/passwd", ""},
			} {
				built, err := FindSource(tt.vmlinux)
				if err != nil || built == nil {
					t.Fatalf("%s is not found: %v", tt.vmlinux, err)
				}
				if text, ok := built.Read(t.Context(), tt.file); text != tt.want || ok != (tt.want != "") {
					t.Errorf("%s of %s is\n%s", tt.file, tt.vmlinux, text)
				}
			}
			// What is neither kept nor as it was is not shown.
			built, err := FindSource(vmlinux)
			if err != nil {
				t.Fatal(err)
			}
			files{"include/ring.h": "edited\n"}.write(t, built.copy)
			if text, ok := built.Read(t.Context(), "include/ring.h"); ok && text != tinyKernel["include/ring.h"] {
				t.Errorf("another text is shown: %q", text)
			}
		})
	}
	// A kernel that does not say what was built, one of another build, none.
	known := publishVmlinux(t, "0303", sources["git"](t))
	file := filepath.Join(filepath.Dir(known), descriptionFile)
	var d Description
	if err := json.Unmarshal([]byte(contentOf(t, file)), &d); err != nil {
		t.Fatal(err)
	}
	d.Patched = ""
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	strange := filepath.Join(t.TempDir(), "vmlinux")
	if out, err := exec.Command("gcc", "-Wl,--build-id=0x0404", "-o", strange, "-xc", "/dev/null", "-nostdlib").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, vmlinux := range []string{known, strange} {
		if built, err := FindSource(vmlinux); built != nil || err != nil {
			t.Errorf("%s: %v, %v", vmlinux, built, err)
		}
	}
	if _, err := FindSource("/no/such/vmlinux"); err == nil {
		t.Error("a vmlinux that is not there is no error")
	}
}
