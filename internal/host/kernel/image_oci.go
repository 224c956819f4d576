package kernel

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// layoutPrefix begins the name of an image in a directory in OCI's layout.
const layoutPrefix = "oci:"

// Pull takes a kernel out of a container image, as those that cilium/little-vm-helper
// publishes are: below some directory of it, boot/vmlinuz-RELEASE and
// lib/modules/RELEASE, and vmlinux-RELEASE or vmlinux if it is there. ref is the name of
// an image in a registry, "oci:" and a directory in OCI's layout with one image, or a tar
// file as docker save writes it. The result is in the cache, by the image's digest.
func Pull(ctx context.Context, ref string, progress io.Writer) (*Result, error) {
	fail := func(err error) (*Result, error) { return nil, fmt.Errorf("image %s: %w", ref, err) }
	image, err := openImage(ctx, ref)
	if err != nil {
		return fail(err)
	}
	digest, err := image.Digest()
	if err != nil {
		return fail(err)
	}
	root, err := cache.Dir("kernels")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "oci-"+digest.Hex[:32])
	if r, ok := open(dir); ok {
		return r, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fail(fmt.Errorf("replace a damaged kernel in the cache: %w", err))
	}
	fmt.Fprintf(progress, "taking the kernel out of %s\n", ref)
	err = cache.Publish(dir, func(tmp string) error { return unpackImage(image, ref, digest.String(), tmp) })
	if err != nil {
		return fail(diskFull(err, dir))
	}
	r, ok := open(dir)
	if !ok {
		return fail(fmt.Errorf("the kernel is not complete in %s", dir))
	}
	r.Cached = false
	return r, nil
}

// openImage finds the image for the architecture that is wanted.
func openImage(ctx context.Context, ref string) (v1.Image, error) {
	if dir, ok := strings.CutPrefix(ref, layoutPrefix); ok {
		index, err := layout.ImageIndexFromPath(expandHome(dir))
		if err != nil {
			return nil, err
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			return nil, err
		}
		var found []v1.Image
		for _, m := range manifest.Manifests {
			if m.MediaType.IsImage() && (m.Platform == nil || m.Platform.Architecture == Wanted()) {
				image, err := index.Image(m.Digest)
				if err != nil {
					return nil, err
				}
				found = append(found, image)
			}
		}
		if len(found) != 1 {
			return nil, fmt.Errorf("the layout has %d images for %s, and should have one", len(found), Wanted())
		}
		return found[0], nil
	}
	if strings.HasSuffix(ref, ".tar") {
		return tarball.ImageFromPath(expandHome(ref), nil)
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return nil, err
	}
	return remote.Image(parsed, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: Wanted()}))
}

// unpackImage writes to dir what belongs to the image's kernel.
func unpackImage(image v1.Image, ref, digest, dir string) error {
	content := mutate.Extract(image)
	defer content.Close()
	out, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer out.Close()
	var kernels []string
	for files := tar.NewReader(content); ; {
		header, err := files.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue // the links of a directory of modules lead to where it was built
		}
		to := partOf(header.Name)
		switch {
		case to == "":
			continue
		case to == targetArch().imageFile():
			kernels = append(kernels, header.Name)
		}
		if err := extract(out, to, files); err != nil {
			return fmt.Errorf("take out %s: %w", header.Name, err)
		}
	}
	// An error in a layer, such as content that is not what its digest says, comes
	// behind a tar file that seems to be complete.
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	if len(kernels) != 1 {
		return fmt.Errorf("there are %d kernels in it, called boot/vmlinuz-*, and should be one: %s", len(kernels), strings.Join(kernels, ", "))
	}
	inspected, err := Inspect(filepath.Join(dir, targetArch().imageFile()))
	if err != nil {
		return err
	}
	if inspected.Arch != Wanted() {
		return fmt.Errorf("its kernel is for %s, and %s is wanted: set ARCH", inspected.Arch, Wanted())
	}
	what := Description{Key: digest, Arch: targetArch().arch, Source: ref, Identity: digest, Release: inspected.Release}
	if what.Sizes, err = sizes(dir); err != nil {
		return err
	}
	data, err := json.MarshalIndent(what, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, descriptionFile), append(data, '\n'), 0o666)
}

// partOf is where a file of the image goes in the directory of a kernel; "" if it is no
// part of one.
func partOf(file string) string {
	elements := strings.Split(path.Clean("/"+file), "/")[1:]
	last := elements[len(elements)-1]
	if i := slices.Index(elements, "modules"); i > 0 && elements[i-1] == "lib" && len(elements) > i+2 {
		return path.Join(append([]string{modulesDir, "lib"}, elements[i:]...)...)
	}
	switch {
	case len(elements) > 1 && elements[len(elements)-2] == "boot" && (strings.HasPrefix(last, "vmlinuz-") || last == "vmlinuz" || last == "bzImage"):
		return targetArch().imageFile()
	case last == "vmlinux", strings.HasPrefix(last, "vmlinux-"):
		return vmlinuxFile
	case strings.HasPrefix(last, "config-"):
		return configFile
	}
	return ""
}

// extract writes a file below out, in place of what is there.
func extract(out *os.Root, to string, from io.Reader) error {
	if err := out.MkdirAll(path.Dir(to), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	file, err := out.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close())
}
