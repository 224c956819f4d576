package initramfs

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// module is a kernel module below Options.Modules.
type module struct {
	name     string // as /proc/modules has it: with underscores
	path     string
	size     int64
	modified time.Time
}

// wanted are the modules that the harness and its tests use, in the order in
// which they are loaded: first the way to the host. A name that is not there
// is built in, or the test that needs it says so.
var wanted = []string{
	"virtio_pci", "virtio_mmio", "virtio_console",
	"af_packet", "ipv6", "tun", "tap", "vhost_net", "veth", "pktgen", "sch_*",
}

// extensions are the ways in which distributions ship modules.
var extensions = []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"}

// findModules lists every module below dir, by name.
func findModules(dir string) ([]module, error) {
	if dir == "" {
		return nil, nil
	}
	if fi, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	} else if !fi.IsDir() {
		return nil, fmt.Errorf("modules: %s is not a directory; give the one that was INSTALL_MOD_PATH of \"make modules_install\"", dir)
	}
	var mods []module
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base, ext, _ := strings.Cut(d.Name(), ".")
		if !d.Type().IsRegular() || !slices.Contains(extensions, "."+ext) {
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		mods = append(mods, module{
			name: strings.ReplaceAll(base, "-", "_"),
			path: path, size: fi.Size(), modified: fi.ModTime(),
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for modules: %w", err)
	}
	if len(mods) == 0 {
		return nil, fmt.Errorf("modules: no kernel module (*.ko) below %s; give the directory that was INSTALL_MOD_PATH of \"make modules_install\"", dir)
	}
	slices.SortFunc(mods, func(a, b module) int { return strings.Compare(a.name, b.name) })
	for i := range mods[1:] {
		if a, b := mods[i], mods[i+1]; a.name == b.name {
			return nil, fmt.Errorf("modules: %s and %s are both named %s; give the directory of one kernel", a.path, b.path, a.name)
		}
	}
	return mods, nil
}

// unpack writes those of mods that are wanted to dir, uncompressed, with
// those that they depend on, and the list "load" that init reads. It returns
// their names in that order.
func unpack(dir string, mods []module) (order []string, err error) {
	if len(mods) == 0 {
		return nil, nil
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	var load strings.Builder
	seen := make(map[string]bool)
	var add func(m module) error
	add = func(m module) error {
		if seen[m.name] {
			return nil
		}
		seen[m.name] = true
		image, err := m.read()
		if err != nil {
			return err
		}
		deps, err := depends(image)
		if err != nil {
			return fmt.Errorf("read module %s: %w", m.path, err)
		}
		for _, name := range deps {
			dep, ok := find(mods, name)
			if !ok {
				return fmt.Errorf("module %s depends on %s, which is not there", m.path, name)
			}
			if err := add(dep); err != nil {
				return err
			}
		}
		order = append(order, m.name)
		file := m.name + ".ko"
		fmt.Fprintf(&load, "/lib/modules/%s\n", file)
		return os.WriteFile(filepath.Join(dir, file), image, 0o644)
	}
	for _, pattern := range wanted {
		for _, m := range mods {
			if ok, _ := filepath.Match(pattern, m.name); !ok {
				continue
			}
			if err := add(m); err != nil {
				return nil, err
			}
		}
	}
	return order, os.WriteFile(filepath.Join(dir, "load"), []byte(load.String()), 0o644)
}

func find(mods []module, name string) (module, bool) {
	i, ok := slices.BinarySearchFunc(mods, name, func(m module, name string) int {
		return strings.Compare(m.name, name)
	})
	if !ok {
		return module{}, false
	}
	return mods[i], true
}

// read returns the module uncompressed: the kernel may not be able to.
func (m module) read() ([]byte, error) {
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
	image, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.path, err)
	}
	return image, nil
}

// depends reads the "depends" tag that modpost writes into every module
// (scripts/mod/modpost.c: add_depends); modules.dep is made of these.
func depends(image []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section: not a kernel module")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for tag := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(tag, "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}
