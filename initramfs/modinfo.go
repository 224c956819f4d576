package initramfs

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// image is a module's file, uncompressed, and what its tags say.
type image struct {
	data    []byte
	depends []string // names of modules
	release string   // of the kernel that it was built for; "" if it has no vermagic
}

// open reads the module. The kernel may not be able to decompress it.
func (m module) open() (*image, error) {
	if m.err != nil {
		return nil, m.err
	}
	f, err := os.Open(m.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(m.path) {
	case ".gz":
		r, err = gzip.NewReader(f)
	case ".xz":
		r, err = xz.NewReader(f)
	case ".zst":
		r, err = zstd.NewReader(f)
	}
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", m.path, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.path, err)
	}
	i := &image{data: data}
	if err := i.readTags(); err != nil {
		return nil, fmt.Errorf("read module %s: %w", m.path, err)
	}
	return i, nil
}

// readTags reads the tags that modpost writes into every module: modules.dep is
// made of "depends" (scripts/mod/modpost.c: add_depends), and the kernel
// compares "vermagic", whose first word is its release, with its own
// (include/linux/vermagic.h).
func (i *image) readTags() error {
	f, err := elf.NewFile(bytes.NewReader(i.data))
	if err != nil {
		return err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return errors.New("no .modinfo section: not a kernel module")
	}
	info, err := section.Data()
	if err != nil {
		return err
	}
	for tag := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(tag, "depends="); ok && list != "" {
			i.depends = strings.Split(underscores(list), ",")
		}
		if magic, ok := strings.CutPrefix(tag, "vermagic="); ok {
			i.release, _, _ = strings.Cut(magic, " ")
		}
	}
	return nil
}
