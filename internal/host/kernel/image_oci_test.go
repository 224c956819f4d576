package kernel

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// container makes an image of these layers. A link is a file whose content begins with
// "->".
func container(t *testing.T, layers ...files) v1.Image {
	t.Helper()
	image := empty.Image
	for _, content := range layers {
		var text bytes.Buffer
		w := tar.NewWriter(&text)
		var paths []string
		for path := range content {
			paths = append(paths, path)
		}
		slices.Sort(paths)
		for _, path := range paths {
			header := &tar.Header{Name: path, Mode: 0o644, Size: int64(len(content[path])), Typeflag: tar.TypeReg}
			if link, ok := strings.CutPrefix(content[path], "->"); ok {
				header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, link, 0
			}
			if err := w.WriteHeader(header); err != nil {
				t.Fatal(err)
			}
			if header.Size > 0 {
				if _, err := io.WriteString(w, content[path]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// shipped is a kernel as little-vm-helper's images have it.
func shipped(kernel []byte) files {
	const at = "data/kernels/6.12/"
	return files{
		at + "boot/vmlinuz-6.12.0-rt": string(kernel), at + "boot/vmlinux-6.12.0-rt": "elf", at + "boot/config-6.12.0-rt": "CONFIG_TUN=m\n",
		at + "lib/modules/6.12.0-rt/kernel/drivers/net/tun.ko": "tun", at + "lib/modules/6.12.0-rt/build": "->/src",
		"etc/passwd": "root",
	}
}

// TestPull: the kernel of an image is found wherever the image is, once.
func TestPull(t *testing.T) {
	isolate(t)
	image := container(t, files{"data/kernels/6.12/boot/vmlinuz-6.12.0-rt": "of a layer below"}, shipped(bzImage()))
	dir := t.TempDir()
	index, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := index.AppendImage(image); err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(dir, "image.tar"), nameOf(t, "lvh/kernel-images:6.12-main"), image); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	ref := strings.TrimPrefix(server.URL, "http://") + "/lvh/kernel-images:6.12-main"
	if err := remote.Write(nameOf(t, ref), image); err != nil {
		t.Fatal(err)
	}
	for i, from := range []string{"oci:" + filepath.Join(dir, "layout"), filepath.Join(dir, "image.tar"), ref} {
		if i > 0 {
			t.Setenv("RINGPROOF_CACHE", t.TempDir())
		}
		k, err := Pull(t.Context(), from, io.Discard)
		if err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		if k.Cached || k.Release != "6.12.0-rt" || contentOf(t, k.Image) != string(bzImage()) || contentOf(t, k.Vmlinux) != "elf" || contentOf(t, k.Config) != "CONFIG_TUN=m\n" {
			t.Errorf("%s: %+v", from, k)
		}
		if contentOf(t, filepath.Join(k.Modules, "lib/modules/6.12.0-rt/kernel/drivers/net/tun.ko")) != "tun" {
			t.Errorf("%s: its modules are not there", from)
		}
		var have []string
		for file := range k.Sizes {
			have = append(have, file)
		}
		if slices.Sort(have); len(have) != 4 {
			t.Errorf("%s: there is more than belongs to the kernel: %v", from, have)
		}
		if again, err := Pull(t.Context(), from, io.Discard); err != nil || !again.Cached {
			t.Errorf("%s: again: %v, %v", from, again, err)
		}
	}
}

// TestPullOfWhatHasNoKernel: what is wrong with an image is said, and nothing stays in
// the cache.
func TestPullOfWhatHasNoKernel(t *testing.T) {
	isolate(t)
	two := shipped(bzImage())
	two["data/kernels/7.2/boot/vmlinuz-7.2"] = string(bzImage())
	escapes := shipped(bzImage())
	escapes["data/../../escaped"] = "out"
	for name, tt := range map[string]struct {
		content files
		says    string
	}{
		"escapes":   {escapes, "unsafe"},
		"none":      {files{"etc/passwd": "root"}, "there are 0 kernels in it"},
		"two":       {two, "boot/vmlinuz-7.2"},
		"no kernel": {shipped([]byte("text")), "not a kernel"},
	} {
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := tarball.WriteToFile(file, nameOf(t, "x:y"), container(t, tt.content)); err != nil {
			t.Fatal(err)
		}
		if k, err := Pull(t.Context(), file, io.Discard); err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, %v; want an error that says %q", name, k, err, tt.says)
		}
	}
	for _, ref := range []string{"oci:/absent", "/absent.tar", "not an image", "127.0.0.1:1/none:none"} {
		if k, err := Pull(t.Context(), ref, io.Discard); err == nil {
			t.Errorf("%s: %v", ref, k)
		}
	}
	if left, err := os.ReadDir(filepath.Join(os.Getenv("RINGPROOF_CACHE"), "kernels")); err != nil || len(left) != 0 {
		t.Errorf("left in the cache: %v, %v", left, err)
	}
}

func nameOf(t *testing.T, ref string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}
