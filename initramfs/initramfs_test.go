package initramfs

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ringproof/ringproof/internal/host/cache"
	"github.com/u-root/mkuimage/cpio"
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
	_, _, err = Build(t.Context(), Options{Package: "../kconfigs"})
	if err == nil || !strings.Contains(err.Error(), "no tests") {
		t.Errorf("package without tests: %v", err)
	}
}

// TestLibrariesFollow: a program that is linked to shared libraries comes with all
// of them, and with the interpreter that loads them.
func TestLibrariesFollow(t *testing.T) {
	t.Setenv(cache.Env, t.TempDir())
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Skip(err)
	}
	out, err := exec.Command("ldd", shell).CombinedOutput()
	if err != nil {
		t.Skipf("ldd %s: %v: %s", shell, err, out)
	}
	image, _ := mustBuild(t, Options{Package: guestPackage, Files: map[string]string{"/bin/shell": shell}})
	held := files(t, image)
	for _, word := range strings.Fields(string(out)) {
		if !filepath.IsAbs(word) {
			continue
		}
		want, err := os.ReadFile(word)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := held[word[1:]]; !ok || !bytes.Equal(got, want) {
			t.Errorf("the image lacks %s: there %v, %d bytes", word, ok, len(got))
		}
	}
	if len(held["bin/shell"]) == 0 {
		t.Error("the image lacks the program")
	}
}

func TestAProgramThatIsNotThere(t *testing.T) {
	t.Setenv(cache.Env, t.TempDir())
	_, _, err := Build(t.Context(), Options{Package: guestPackage, Files: map[string]string{"/bin/shell": "/nonexistent/shell"}})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/shell") {
		t.Errorf("%v, which should name the file", err)
	}
}
