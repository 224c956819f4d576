package kernel

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// publish puts what was built into the cache as dir.
func (o *objects) publish(ctx context.Context, dir string, what *Description) error {
	release, err := o.release()
	if err != nil {
		return fmt.Errorf("read the release of the kernel: %w", err)
	}
	what.Release = release
	what.Lacks = o.lacks
	what.Copy, what.Patched = filepath.Base(o.tree.dir), o.tree.at
	// A kernel that was there under this key is damaged, or open would have
	// returned it.
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("replace a damaged kernel in the cache: %w", err)
	}
	err = cache.Publish(dir, func(tmp string) error {
		for from, to := range map[string]string{targetArch().image: targetArch().imageFile(), "vmlinux": vmlinuxFile, ".config": configFile} {
			if err := copyFile(filepath.Join(o.dir, from), filepath.Join(tmp, to)); err != nil {
				return fmt.Errorf("copy the kernel: %w", err)
			}
		}
		if o.modular() {
			if err := o.installModules(ctx, filepath.Join(tmp, modulesDir)); err != nil {
				return err
			}
		}
		if what.Sizes, err = sizes(tmp); err != nil {
			return err
		}
		data, err := json.MarshalIndent(what, "", "\t")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(tmp, descriptionFile), append(data, '\n'), 0o666)
	})
	return diskFull(err, dir)
}

func (o *objects) installModules(ctx context.Context, dir string) error {
	// Strip: their debug info is ten times what a guest needs to load.
	if err := os.Mkdir(dir, 0o777); err != nil {
		return fmt.Errorf("install the modules: %w", err)
	}
	c, err := o.command(ctx, []string{dir}, "modules_install", "INSTALL_MOD_PATH="+dir, "INSTALL_MOD_STRIP=1")
	if err != nil {
		return fmt.Errorf("install the modules: %w", err)
	}
	if _, err := c.output(); err != nil {
		return fmt.Errorf("install the modules: %w", err)
	}
	links, err := filepath.Glob(filepath.Join(dir, "lib/modules/*/build"))
	if err != nil {
		return err
	}
	for _, link := range links { // to the build directory, which changes
		if err := os.Remove(link); err != nil {
			return err
		}
	}
	return nil
}

// sizes lists the files below dir with their sizes.
func sizes(dir string) (map[string]int64, error) {
	sizes := make(map[string]int64)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		sizes[rel] = fi.Size()
		return err
	})
	return sizes, err
}
