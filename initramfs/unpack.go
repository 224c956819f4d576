package initramfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the modules that the harness and its tests use, in the order in
// which they are loaded: first the way to the host. A name that is not there
// is built in, or the test that needs it says so.
var wanted = []string{
	"virtio_pci", "virtio_mmio", "virtio_console",
	"af_packet", "ipv6", "tun", "tap", "vhost_net", "veth", "macvtap", "pktgen", "sch_*",
}

// indispensable are those of them without which no test can run.
var indispensable = []string{"virtio_pci", "virtio_console", "tun"}

// unpacker writes modules to a directory.
type unpacker struct {
	dir, release string
	mods         []module
	done         map[string]error // by name
	order        []string         // of those that are written, as they have to be loaded
	own          int              // of them, those that may be of the kernel
	foreign      error            // about one that is of another kernel
}

// unpack writes those of mods that are wanted to dir, uncompressed, with
// those that they depend on, and the lists that init reads: "load", and
// "left-out" with what the tests can do without and why it is not there. It
// returns the names in the first.
func unpack(dir, release string, mods []module) (order []string, err error) {
	if len(mods) == 0 {
		return nil, nil
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	u := unpacker{dir: dir, release: release, mods: mods, done: map[string]error{}}
	var leftOut strings.Builder
	for _, pattern := range wanted {
		for _, m := range mods {
			if ok, _ := filepath.Match(pattern, m.name); !ok {
				continue
			}
			switch err := u.add(m.name); {
			case err != nil && slices.Contains(indispensable, m.name):
				return nil, err
			case err != nil:
				fmt.Fprintf(&leftOut, "%s: %s\n", m.name, strings.ReplaceAll(err.Error(), "\n", "; "))
			}
		}
	}
	// Whether one or two of another kernel will do (CONFIG_MODVERSIONS) is for
	// the kernel to decide.
	if u.own == 0 && u.foreign != nil {
		return nil, u.foreign
	}
	var load strings.Builder
	for _, name := range u.order {
		fmt.Fprintf(&load, "/lib/modules/%s.ko\n", name)
	}
	return u.order, errors.Join(
		os.WriteFile(filepath.Join(dir, "load"), []byte(load.String()), 0o644),
		os.WriteFile(filepath.Join(dir, "left-out"), []byte(leftOut.String()), 0o644),
	)
}

// add writes the module of that name, after those that it depends on.
func (u *unpacker) add(name string) (err error) {
	if err, ok := u.done[name]; ok {
		return err
	}
	u.done[name] = nil // for modules that depend on each other
	defer func() { u.done[name] = err }()
	m, image, err := u.choose(name)
	if err != nil {
		return err
	}
	for _, dep := range image.depends {
		if len(named(u.mods, dep)) == 0 {
			return fmt.Errorf("module %s depends on %s, which is not there", m.path, dep)
		}
		if err := u.add(dep); err != nil {
			return fmt.Errorf("module %s depends on %s: %w", m.path, dep, err)
		}
	}
	if u.release == "" || image.release == "" || image.release == u.release {
		u.own++
	} else {
		u.foreign = fmt.Errorf("MODULES are of another kernel: %s is of %s, and KERNEL is %s; give the modules of that kernel", m.path, image.release, u.release)
	}
	u.order = append(u.order, name)
	return os.WriteFile(filepath.Join(u.dir, name+".ko"), image.data, 0o644)
}

// choose reads the module of that name: of several the one that is of the
// kernel's release, if they are not all the same.
func (u *unpacker) choose(name string) (m module, i *image, err error) {
	for _, c := range named(u.mods, name) {
		other, err := c.open()
		switch {
		case err != nil:
			return c, nil, err
		case i == nil || i.release != u.release && other.release == u.release:
			m, i = c, other
		case i.release == u.release && other.release != u.release || bytes.Equal(i.data, other.data):
		default:
			return c, nil, fmt.Errorf("modules: %s and %s are both named %s; give the directory of one kernel", m.path, c.path, name)
		}
	}
	return m, i, nil
}
