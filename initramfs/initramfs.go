// Package initramfs builds the image that the VM boots: our init (package
// initramfs/init), one guest test binary and, if the kernel under test has its
// drivers as modules, those modules.
package initramfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/ldd"
	"github.com/u-root/mkuimage/uimage/initramfs"
)

// Program is where the image has the guest test binary: the first element of
// contract.Boot's Argv.
const Program = "/bin/guest.test"

// Options says what goes into an image.
type Options struct {
	// Package is the Go package whose tests the image runs, as go test names
	// it, for example "./vmtests/guest". Required.
	Package string
	// Dir is where Package is looked up; "" is the working directory.
	Dir string
	// Arch is the guest's architecture, as Go calls it; "" is amd64.
	Arch string
	// Modules is a directory with the kernel's modules, as "make
	// modules_install" leaves it or a build tree; compressed ones too. ""
	// means that everything is built in.
	Modules string
	// Release is the kernel's, as uname -r shows it, to find its modules
	// among others and to refuse those of another kernel; "" if not known.
	Release string
	// Files are further programs for the guest: where in the image, for
	// example "/bin/readloop", to what file of the host. The shared libraries
	// that a program needs, and its ELF interpreter, come with it.
	Files map[string]string
	// Progress is told when the image is not in the cache and has to be
	// built; nil is io.Discard.
	Progress io.Writer
}

// Build returns the path of an image, which stays in the cache:
//
//	image, cached, err := initramfs.Build(ctx, initramfs.Options{Package: "./vmtests/guest"})
//
// The two programs are always handed to the go command, which is quick to see
// that nothing changed, and knows better than we do what they are made of.
// The image is then looked up by their content and that of the modules; cached
// says that it was there.
func Build(ctx context.Context, o Options) (path string, cached bool, err error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	mods, err := findModules(o.Modules, o.Release)
	if err != nil {
		return "", false, err
	}
	work, err := programs(ctx, o)
	if err != nil {
		return "", false, err
	}
	defer work.lock.Release()
	if o.Files, err = withLibraries(o.Files); err != nil {
		return "", false, err
	}

	key, err := imageKey(work, mods, o)
	if err != nil {
		return "", false, fmt.Errorf("read what the image is made of: %w", err)
	}
	images, err := cache.Dir("initramfs")
	if err != nil {
		return "", false, err
	}
	dir := filepath.Join(images, key)
	path = filepath.Join(dir, "initramfs.cpio")
	if _, err := os.Stat(path); err == nil {
		return path, true, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", false, fmt.Errorf("look for the image: %w", err)
	}
	err = cache.Publish(dir, func(tmp string) error { return write(tmp, work, mods, o) })
	if err != nil {
		return "", false, fmt.Errorf("build the image: %w", err)
	}
	return path, false, nil
}

// withLibraries adds what the programs among files are linked to, where their
// interpreter looks for it.
func withLibraries(files map[string]string) (map[string]string, error) {
	all := maps.Clone(files)
	for _, file := range files {
		libraries, err := ldd.List(file)
		if err != nil {
			return nil, fmt.Errorf("find the shared libraries of %s: %w", file, err)
		}
		for _, library := range libraries {
			all[library] = library
		}
	}
	return all, nil
}

// imageKey hashes what the image will hold. format changes when the way in
// which it is put together does.
func imageKey(work *build, mods []module, o Options) (string, error) {
	const format = "3"
	h := sha256.New()
	fmt.Fprintln(h, format, o.Release)
	files := []string{work.init, work.guest}
	for _, to := range slices.Sorted(maps.Keys(o.Files)) {
		io.WriteString(h, to)
		files = append(files, o.Files[to])
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		n, err := io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, n)
	}
	for _, m := range mods {
		fmt.Fprintln(h, m.name, m.path, m.size, m.modified.UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// write puts the image together in dir. It is not compressed: under TCG the
// guest takes longer to decompress it than QEMU takes to read it.
func write(dir string, work *build, mods []module, o Options) error {
	files := initramfs.NewFiles()
	err := errors.Join(
		files.AddFile(work.init, "init"),
		files.AddFile(work.guest, Program[1:]),
		// The kernel opens init's standard output before devtmpfs is
		// mounted (init/main.c: console_on_rootfs).
		files.AddRecord(cpio.CharDev("dev/console", 0o600, 5, 1)),
	)
	for to, from := range o.Files {
		err = errors.Join(err, files.AddFile(from, strings.TrimPrefix(to, "/")))
	}
	if err != nil {
		return err
	}
	unpacked := filepath.Join(dir, "modules")
	defer os.RemoveAll(unpacked)
	if _, err := unpack(unpacked, o.Release, mods); err != nil {
		return err
	}
	if len(mods) > 0 {
		if err := files.AddFile(unpacked, "lib/modules"); err != nil {
			return err
		}
	}
	return initramfs.Write(&initramfs.Opts{
		Files:      files,
		OutputFile: &initramfs.CPIOFile{Path: filepath.Join(dir, "initramfs.cpio")},
	})
}

// Extend writes to path what Build returned as image, with one file more. The
// kernel unpacks one archive after the other
// (Documentation/driver-api/early-userspace/buffer-format.rst).
func Extend(image, path, name string, data []byte) (err error) {
	from, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("extend the image: %w", err)
	}
	defer from.Close()
	to, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("extend the image: %w", err)
	}
	defer func() {
		if err = errors.Join(err, to.Close()); err != nil {
			err = fmt.Errorf("extend the image: %w", err)
		}
	}()
	n, err := io.Copy(to, from)
	if err != nil {
		return err
	}
	// An archive begins at a multiple of four.
	if _, err := to.Write(make([]byte, -n&3)); err != nil {
		return err
	}
	w := cpio.Newc.Writer(to)
	if err := w.WriteRecord(cpio.StaticFile(strings.TrimPrefix(name, "/"), string(data), 0o644)); err != nil {
		return err
	}
	return cpio.WriteTrailer(w)
}
