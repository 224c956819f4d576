package kernel

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeep: a kernel is taken out of the cache with all that belongs to it, in place
// of another, and of nothing else; what is not whole is not opened.
func TestKeep(t *testing.T) {
	made := func(release string) *Result {
		dir := t.TempDir()
		files{"bzImage": release, vmlinuxFile: "elf", configFile: "CONFIG_TUN=m\n", "modules/lib/modules/1/tun.ko": "elf"}.write(t, dir)
		d := Description{Release: release}
		var err error
		if d.Sizes, err = sizes(dir); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		files{descriptionFile: string(text)}.write(t, dir)
		r, ok := open(dir)
		if !ok {
			t.Fatal("what was made is not whole")
		}
		return r
	}
	dir := filepath.Join(t.TempDir(), "a", "kernel")
	for _, release := range []string{"7.2.0", "7.3.0"} {
		if err := made(release).Keep(dir); err != nil {
			t.Fatal(err)
		}
		k, err := Open(dir)
		if err != nil || k.Release != release || contentOf(t, k.Image) != release {
			t.Errorf("%+v, %v; want %s", k, err, release)
		}
		if k.Modules != filepath.Join(dir, "modules") {
			t.Errorf("modules: %s", k.Modules)
		}
	}
	if err := os.Truncate(filepath.Join(dir, vmlinuxFile), 1); err != nil {
		t.Fatal(err)
	}
	if k, err := Open(dir); err == nil || !strings.Contains(err.Error(), "ringproof kernel -o") {
		t.Errorf("a kernel that is cut off: %v, %v", k, err)
	}
	mine := t.TempDir()
	files{"thesis.tex": "all of it"}.write(t, mine)
	if err := made("7.3.0").Keep(mine); err == nil || contentOf(t, filepath.Join(mine, "thesis.tex")) != "all of it" {
		t.Errorf("somebody's directory was replaced: %v", err)
	}
}
