package run

import (
	"os"
	"path/filepath"
	"strings"
)

// modulesOf returns where the modules of a kernel seem to be: beside it, as
// distributions install the two and a package unpacks, in the tree that it was
// built in, or installed on this machine; "" if nowhere.
func modulesOf(kernel, release string) string {
	if release == "" {
		return ""
	}
	if real, err := filepath.EvalSymlinks(kernel); err == nil {
		kernel = real
	}
	for _, image := range []string{"/arch/x86/boot/bzImage", "/arch/arm64/boot/Image", "/arch/arm64/boot/Image.gz"} {
		tree, ok := strings.CutSuffix(kernel, image)
		if !ok {
			continue
		}
		if fi, err := os.Stat(filepath.Join(tree, "modules.order")); err == nil && fi.Size() > 0 {
			return tree
		}
	}
	boot := filepath.Dir(kernel)
	if filepath.Base(boot) == release {
		return boot
	}
	for _, top := range []string{filepath.Dir(boot), "/"} {
		for _, below := range []string{"lib/modules", "usr/lib/modules"} {
			dir := filepath.Join(top, below, release)
			if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
				return dir
			}
		}
	}
	return ""
}
