package initramfs

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ringproof/ringproof/internal/host/cache"
	"github.com/u-root/mkuimage/cpio"
	"github.com/ulikunitz/xz"
)

func mustBuild(t *testing.T, o Options) (path string, cached bool) {
	t.Helper()
	path, cached, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return path, cached
}

// files lists what an image holds.
func files(t *testing.T, image string) map[string][]byte {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	held := make(map[string][]byte)
	r := cpio.Newc.Reader(f)
	for {
		record, err := r.ReadRecord()
		if err == io.EOF {
			return held
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(io.NewSectionReader(record, 0, int64(record.FileSize)))
		if err != nil {
			t.Fatal(err)
		}
		held[record.Name] = data
	}
}

const guestPackage = "../internal/host/vm/testdata/guest"

func TestImageIsBuiltOnce(t *testing.T) {
	t.Setenv(cache.Env, t.TempDir())
	first, cached := mustBuild(t, Options{Package: guestPackage})
	if cached {
		t.Error("cached, in an empty cache")
	}
	held := files(t, first)
	for _, name := range []string{"init", "bin/guest.test", "dev/console"} {
		if _, ok := held[name]; !ok {
			t.Errorf("the image lacks %s", name)
		}
	}
	second, cached := mustBuild(t, Options{Package: guestPackage})
	if !cached || second != first {
		t.Errorf("then %s, cached %v; want %s again", second, cached, first)
	}
	other, cached := mustBuild(t, Options{Package: guestPackage, Modules: modules(t)})
	if cached || other == first {
		t.Errorf("with modules %s, cached %v", other, cached)
	}
}

func TestTwoBuildsAtOnce(t *testing.T) {
	t.Setenv(cache.Env, t.TempDir())
	var paths [2]string
	var both sync.WaitGroup
	for i := range paths {
		both.Go(func() {
			var err error
			if paths[i], _, err = Build(t.Context(), Options{Package: guestPackage}); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if paths[0] != paths[1] || len(files(t, paths[0])) == 0 {
		t.Errorf("two images: %q", paths)
	}
}

func TestErrorsOfTheCompilerAreShown(t *testing.T) {
	t.Setenv(cache.Env, t.TempDir())
	_, _, err := Build(t.Context(), Options{Package: "./nothing"})
	if err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("package that is not there: %v", err)
	}
	_, _, err = Build(t.Context(), Options{Package: "./init"})
	if err == nil || !strings.Contains(err.Error(), "no tests") {
		t.Errorf("package without tests: %v", err)
	}
}

// modules writes a tree of modules, each compressed in another way, in which
// vhost_net needs vhost and tap, and tap needs tun.
func modules(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lib", "modules", "6.12.0", "kernel")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, depends := range map[string]string{
		"tun.ko": "", "tap.ko.gz": "tun", "vhost.ko.xz": "", "vhost_net.ko.zst": "vhost,tap",
		"sch-fq.ko": "", "e1000.ko": "mii", "virtio_console.ko.xz": "",
	} {
		image := compile(t, depends)
		var packed bytes.Buffer
		var w io.WriteCloser
		var err error
		switch filepath.Ext(file) {
		case ".gz":
			w = gzip.NewWriter(&packed)
		case ".xz":
			w, err = xz.NewWriter(&packed)
		case ".zst":
			w, err = zstd.NewWriter(&packed)
		default:
			packed.Write(image)
		}
		if err != nil {
			t.Fatal(err)
		}
		if w != nil {
			w.Write(image)
			w.Close()
		}
		if err := os.WriteFile(filepath.Join(dir, file), packed.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// compile makes an object file with a module's tags.
func compile(t *testing.T, depends string) []byte {
	t.Helper()
	object := filepath.Join(t.TempDir(), "m.o")
	source := `const char i[] __attribute__((section(".modinfo"))) = "license=GPL\0depends=` + depends + `\0vermagic=6.12.0";`
	cc := exec.Command("gcc", "-c", "-o", object, "-x", "c", "-")
	cc.Stdin = strings.NewReader(source)
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	image, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestModulesAreLoadedAfterWhatTheyDependOn(t *testing.T) {
	mods, err := findModules(modules(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	order, err := unpack(dir, mods)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"virtio_console", "tun", "tap", "vhost", "vhost_net", "sch_fq"}
	if !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	load, err := os.ReadFile(filepath.Join(dir, "load"))
	if err != nil || !strings.HasPrefix(string(load), "/lib/modules/virtio_console.ko\n/lib/modules/tun.ko\n") {
		t.Errorf("load is %q, %v", load, err)
	}
	for _, name := range order {
		image, err := os.ReadFile(filepath.Join(dir, name+".ko"))
		if err != nil || !bytes.HasPrefix(image, []byte("\x7fELF")) {
			t.Errorf("%s is not uncompressed: %v", name, err)
		}
	}
}

func TestModulesThatCannotBeUsed(t *testing.T) {
	empty, twice, lacking := t.TempDir(), t.TempDir(), t.TempDir()
	file := filepath.Join(t.TempDir(), "file")
	write := func(dir, name string, image []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, image, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Dir(file), "file", nil)
	write(twice, "6.12.0/tun.ko", nil)
	write(twice, "6.12.1/tun.ko.xz", nil)
	write(lacking, "vhost_net.ko", compile(t, "vhost"))
	for dir, says := range map[string]string{
		empty:                           "no kernel module",
		twice:                           "the directory of one kernel",
		filepath.Join(empty, "nothing"): "no such file",
		file:                            "not a directory",
		lacking:                         "depends on vhost, which is not there",
	} {
		t.Run(says, func(t *testing.T) {
			mods, err := findModules(dir)
			if err == nil {
				_, err = unpack(filepath.Join(t.TempDir(), "out"), mods)
			}
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("error %v does not say %q", err, says)
			}
		})
	}
}
