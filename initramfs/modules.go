package initramfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// module is a kernel module below Options.Modules.
type module struct {
	name     string // as /proc/modules has it: with underscores
	path     string
	size     int64
	modified time.Time
	err      error // why there is nothing at path
}

// extensions are the ways in which distributions ship modules.
var extensions = []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"}

// findModules lists every module below dir, by name. Where several have one
// name and depmod would take one of them, that one alone is listed.
func findModules(dir, release string) ([]module, error) {
	if dir == "" {
		return nil, nil
	}
	if fi, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	} else if !fi.IsDir() {
		return nil, fmt.Errorf("modules: %s is not a directory; give the one that was INSTALL_MOD_PATH of \"make modules_install\"", dir)
	}
	w := walker{root: installed(dir, release), been: map[string]bool{}}
	if err := w.walk(w.root); err != nil {
		return nil, fmt.Errorf("look for modules: %w", err)
	}
	if len(w.found) == 0 {
		return nil, fmt.Errorf("modules: no kernel module (*.ko) below %s; give the directory that was INSTALL_MOD_PATH of \"make modules_install\"", dir)
	}
	return prefer(w.root, w.found)
}

// installed is where below dir the modules of that release are, if they are
// installed there: dir may be INSTALL_MOD_PATH, /lib/modules, or what an unpacked
// package has at its top.
func installed(dir, release string) string {
	if release == "" {
		return dir
	}
	for _, below := range []string{"lib/modules", "usr/lib/modules", "."} {
		at := filepath.Join(dir, below, release)
		if fi, err := os.Stat(at); err == nil && fi.IsDir() {
			return at
		}
	}
	return dir
}

// walker looks for modules, through symbolic links.
type walker struct {
	root  string
	found []module
	been  map[string]bool // directories, by their path without symbolic links
}

func (w *walker) walk(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if w.been[real] {
		return nil
	}
	w.been[real] = true
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		link := e.Type()&fs.ModeSymlink != 0
		if link && (e.Name() == "build" || e.Name() == "source") {
			continue // the kernel's tree, in which depmod does not look either
		}
		path := filepath.Join(dir, e.Name())
		base, ext, _ := strings.Cut(e.Name(), ".")
		isModule := slices.Contains(extensions, "."+ext)
		if !isModule && !link {
			if !e.IsDir() {
				continue
			}
			if err := w.walk(path); err != nil {
				return err
			}
			continue
		}
		m := module{name: underscores(base), path: path}
		fi, err := os.Stat(path)
		switch {
		case err != nil && isModule:
			m.err = err
		case err != nil: // a link to nothing
			continue
		case fi.IsDir():
			if err := w.walk(path); err != nil {
				return err
			}
			continue
		case !isModule || !fi.Mode().IsRegular():
			continue
		default:
			m.size, m.modified = fi.Size(), fi.ModTime()
		}
		w.found = append(w.found, m)
	}
	return nil
}

func underscores(name string) string { return strings.ReplaceAll(name, "-", "_") }

// prefer sorts the modules by name. Of several with one name only those stay
// that come first: what depmod has chosen if it has run below root, then what
// it would search first, then what is of the build that root is the tree of, and
// not of an installed copy in it.
func prefer(root string, mods []module) ([]module, error) {
	chosen, err := listed(filepath.Join(root, "modules.dep"))
	if err != nil {
		return nil, err
	}
	built, err := listed(filepath.Join(root, "modules.order"))
	if err != nil {
		return nil, err
	}
	rank := func(m module) int {
		rel, err := filepath.Rel(root, m.path)
		stem, _, _ := strings.Cut(rel, ".ko")
		r := 4 * searched(rel)
		switch {
		case err != nil:
		case chosen[stem]:
			r = -1
		case !built[stem]:
			r++
		}
		if m.err != nil {
			r += 100
		}
		return r
	}
	ranks := make(map[string]int, len(mods))
	best := make(map[string]int)
	for _, m := range mods {
		r := rank(m)
		ranks[m.path] = r
		if b, ok := best[m.name]; !ok || r < b {
			best[m.name] = r
		}
	}
	mods = slices.DeleteFunc(mods, func(m module) bool { return ranks[m.path] > best[m.name] })
	slices.SortFunc(mods, func(a, b module) int {
		return strings.Compare(a.name+"\x00"+a.path, b.name+"\x00"+b.path)
	})
	return mods, nil
}

// searched is the place of a module in the order in which distributions have
// depmod search: depmod.d(5) says "search updates built-in" for want of anything
// else, and dkms and weak-modules install beside kernel/.
func searched(rel string) int {
	order := []string{"updates", "extra", "", "weak-updates"}
	for part := range strings.SplitSeq(filepath.Dir(rel), string(filepath.Separator)) {
		if i := slices.Index(order, part); i >= 0 && part != "" {
			return i
		}
	}
	return slices.Index(order, "")
}

// listed reads which modules modules.dep (depmod's: "kernel/a.ko.xz: kernel/b.ko.xz")
// or modules.order (kbuild's: "kernel/a.ko", "a.o" in a build tree since 6.3) has
// in front, without their extensions. It is empty if there is no such file.
func listed(file string) (map[string]bool, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for modules: %w", err)
	}
	stems := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		path, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		if stem, _, ok := strings.Cut(path, ".ko"); ok {
			stems[stem] = true
		} else if stem, ok := strings.CutSuffix(path, ".o"); ok {
			stems[stem] = true
		}
	}
	return stems, nil
}

// named returns the modules of that name: one, or several that nothing tells
// apart.
func named(mods []module, name string) []module {
	from, _ := slices.BinarySearchFunc(mods, name, func(m module, name string) int {
		return strings.Compare(m.name, name)
	})
	to := from
	for to < len(mods) && mods[to].name == name {
		to++
	}
	return mods[from:to]
}
