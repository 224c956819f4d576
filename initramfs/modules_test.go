package initramfs

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const (
	release      = "6.12.0"
	otherRelease = "6.1.0"
)

// a module to be made: what it depends on, and the kernel that it is built for,
// which is that of release if it is "".
type made struct{ depends, release string }

// put writes a file of a tree, with the directories above it.
func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// link makes a symbolic link in a tree.
func link(t *testing.T, dir, name, to string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// tree writes modules, compressed as their names say.
func tree(t *testing.T, files map[string]made) string {
	t.Helper()
	dir := t.TempDir()
	for name, m := range files {
		put(t, dir, name, pack(t, name, compile(t, m)))
	}
	return dir
}

func pack(t *testing.T, name string, image []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	var w io.WriteCloser
	var err error
	switch filepath.Ext(name) {
	case ".gz":
		w = gzip.NewWriter(&packed)
	case ".xz":
		w, err = xz.NewWriter(&packed)
	case ".zst":
		w, err = zstd.NewWriter(&packed)
	default:
		return image
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(image); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

var compiled = map[made][]byte{}

// compile makes an object file with a module's tags.
func compile(t *testing.T, m made) []byte {
	t.Helper()
	if m.release == "" {
		m.release = release
	}
	if image := compiled[m]; image != nil {
		return image
	}
	object := filepath.Join(t.TempDir(), "m.o")
	source := `const char i[] __attribute__((section(".modinfo"))) = "license=GPL\0depends=` + m.depends + `\0vermagic=` + m.release + ` SMP mod_unload";`
	cc := exec.Command("gcc", "-c", "-o", object, "-x", "c", "-")
	cc.Stdin = strings.NewReader(source)
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	image, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	compiled[m] = image
	return image
}

// modules is a tree in which vhost_net needs vhost and tap, and tap needs tun.
func modules(t *testing.T) string {
	t.Helper()
	return tree(t, map[string]made{
		"lib/modules/6.12.0/kernel/tun.ko": {}, "lib/modules/6.12.0/kernel/tap.ko.gz": {depends: "tun"},
		"lib/modules/6.12.0/kernel/vhost.ko.xz": {}, "lib/modules/6.12.0/kernel/vhost_net.ko.zst": {depends: "vhost,tap"},
		"lib/modules/6.12.0/kernel/sch-fq.ko": {}, "lib/modules/6.12.0/kernel/e1000.ko": {depends: "mii"},
		"lib/modules/6.12.0/kernel/virtio_console.ko.xz": {},
	})
}

// unpacked is what unpack leaves.
type unpacked struct {
	dir     string
	order   []string
	leftOut string
}

// unpackTree unpacks what is wanted below dir for a kernel of release.
func unpackTree(t *testing.T, dir string) (u unpacked, err error) {
	t.Helper()
	mods, err := findModules(dir, release)
	if err != nil {
		return u, err
	}
	u.dir = filepath.Join(t.TempDir(), "out")
	if u.order, err = unpack(u.dir, release, mods); err != nil {
		return u, err
	}
	leftOut, err := os.ReadFile(filepath.Join(u.dir, "left-out"))
	if err != nil {
		t.Fatal(err)
	}
	u.leftOut = string(leftOut)
	return u, nil
}

func TestModulesAreLoadedAfterWhatTheyDependOn(t *testing.T) {
	u, err := unpackTree(t, modules(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"virtio_console", "tun", "tap", "vhost", "vhost_net", "sch_fq"}
	if !slices.Equal(u.order, want) || u.leftOut != "" {
		t.Errorf("order %v, want %v; left out: %q", u.order, want, u.leftOut)
	}
	load, err := os.ReadFile(filepath.Join(u.dir, "load"))
	if err != nil || !strings.HasPrefix(string(load), "/lib/modules/virtio_console.ko\n/lib/modules/tun.ko\n") {
		t.Errorf("load is %q, %v", load, err)
	}
	for _, name := range u.order {
		image, err := os.ReadFile(filepath.Join(u.dir, name+".ko"))
		if err != nil || !bytes.HasPrefix(image, []byte("\x7fELF")) {
			t.Errorf("%s is not uncompressed: %v", name, err)
		}
	}
}

// TestModulesThroughSymbolicLinks: a link may stand for MODULES itself, for any
// directory on the way and for a module; the links to the kernel's tree are not
// followed, and a link to nothing or back is no harm.
func TestModulesThroughSymbolicLinks(t *testing.T) {
	store := tree(t, map[string]made{"net/tun.ko.xz": {}, "veth.ko": {}, "tree/tun.ko": {depends: "absent"}})
	dir := t.TempDir()
	link(t, dir, "real/kernel/drivers", store+"/net")
	link(t, dir, "real/kernel/veth.ko", store+"/veth.ko")
	link(t, dir, "real/kernel/again", "..")
	link(t, dir, "real/kernel/nowhere", "absent")
	link(t, dir, "real/kernel/e1000.ko", "absent")
	link(t, dir, "real/kernel/sch_fq.ko", "absent")
	link(t, dir, "real/build", store+"/tree")
	link(t, dir, "real/source", store+"/tree")
	link(t, dir, "lib/modules/6.12.0", dir+"/real")
	link(t, dir, "modules", "lib/modules/6.12.0")
	for _, given := range []string{"modules", "lib/modules/6.12.0", "lib/modules", ".", "real"} {
		u, err := unpackTree(t, filepath.Join(dir, given))
		if want := []string{"tun", "veth"}; err != nil || !slices.Equal(u.order, want) {
			t.Errorf("MODULES=%s: order %v, %v; want %v", given, u.order, err, want)
		}
		if !strings.Contains(u.leftOut, "sch_fq: stat") || strings.Contains(u.leftOut, "e1000") {
			t.Errorf("MODULES=%s: left out: %q", given, u.leftOut)
		}
	}
}

// TestModulesOfOneName: which of two is taken.
func TestModulesOfOneName(t *testing.T) {
	own, other := made{}, made{release: otherRelease}
	for _, tt := range []struct {
		name  string
		files map[string]made
		texts map[string]string
		want  string // path of tun that is taken, or the error
	}{
		{"updates", map[string]made{"updates/dkms/tun.ko": own, "kernel/net/tun.ko": own}, nil, "updates/dkms/tun.ko"},
		{"extra", map[string]made{"kernel/net/tun.ko": own, "extra/tun.ko.xz": own}, nil, "extra/tun.ko.xz"},
		{"weak-updates", map[string]made{"kernel/net/tun.ko": own, "weak-updates/tun.ko": own}, nil, "kernel/net/tun.ko"},
		{"modules.dep", map[string]made{"kernel/net/tun.ko.xz": own, "updates/tun.ko": {depends: "absent"}},
			map[string]string{"modules.dep": "kernel/net/tun.ko.xz:\n"}, "kernel/net/tun.ko.xz"},
		{"installed copy in the build tree", map[string]made{"net/tun.ko": own, "mods/lib/modules/6.12.0-old/kernel/net/tun.ko": own},
			map[string]string{"modules.order": "net/tun.o\n"}, "net/tun.ko"},
		{"not wanted", map[string]made{"kernel/a/e1000.ko": own, "kernel/b/e1000.ko.gz": {depends: "mii"}, "kernel/tun.ko": own}, nil, "kernel/tun.ko"},
		{"of another kernel", map[string]made{"a/tun.ko": other, "b/tun.ko": own}, nil, "b/tun.ko"},
		{"the same twice", map[string]made{"a/tun.ko": own, "b/tun.ko.xz": own}, nil, "a/tun.ko"},
		{"nothing tells them apart", map[string]made{"a/tun.ko": own, "b/tun.ko": {depends: "tap"}, "tap.ko": own}, nil, "are both named tun"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t, tt.files)
			for name, text := range tt.texts {
				put(t, dir, name, []byte(text))
			}
			mods, err := findModules(dir, release)
			if err != nil {
				t.Fatal(err)
			}
			u := unpacker{release: release, mods: mods}
			m, _, err := u.choose("tun")
			if both := "are both named tun"; err != nil || tt.want == both {
				if tt.want != both || err == nil || !strings.Contains(err.Error(), both) {
					t.Errorf("error %v, want %s", err, tt.want)
				}
				return
			}
			if m.path != filepath.Join(dir, tt.want) {
				t.Errorf("%s is taken, want %s", m.path, tt.want)
			}
			if _, err := unpackTree(t, dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestModulesThatTestsCanDoWithout: they are left out, and the reason is kept.
func TestModulesThatTestsCanDoWithout(t *testing.T) {
	dir := tree(t, map[string]made{"tun.ko": {}, "sch_x.ko": {depends: "absent"}, "sch_y.ko": {depends: "sch_x"}, "sch_z.ko": {}})
	put(t, dir, "veth.ko.xz", []byte("no xz"))
	put(t, dir, "e1000.ko", []byte("no module, and nobody's concern"))
	u, err := unpackTree(t, dir)
	if want := []string{"tun", "sch_z"}; err != nil || !slices.Equal(u.order, want) {
		t.Errorf("order %v, %v; want %v", u.order, err, want)
	}
	for _, says := range []string{"sch_x: module " + dir + "/sch_x.ko depends on absent, which is not there", "sch_y: ", "veth: decompress"} {
		if !strings.Contains(u.leftOut, says) {
			t.Errorf("left out: %q does not say %q", u.leftOut, says)
		}
	}
	if n := strings.Count(u.leftOut, "\n"); n != 3 {
		t.Errorf("%d left out, want 3: %q", n, u.leftOut)
	}
}

func TestModulesThatCannotBeUsed(t *testing.T) {
	empty, broken, dir := t.TempDir(), t.TempDir(), t.TempDir()
	put(t, dir, "file", nil)
	put(t, broken, "tun.ko", []byte("\x7fELF"))
	link(t, dir, "link", "absent")
	for given, says := range map[string]string{
		empty:                         "no kernel module",
		filepath.Join(dir, "nothing"): "no such file",
		filepath.Join(dir, "link"):    "no such file",
		filepath.Join(dir, "file"):    "not a directory",
		broken:                        "read module " + broken,
		tree(t, map[string]made{"tun.ko": {depends: "absent"}}):                                                     "depends on absent, which is not there",
		tree(t, map[string]made{"6.1.0/tun.ko": {release: otherRelease}, "6.1.0/veth.ko": {release: otherRelease}}): "is of 6.1.0, and KERNEL is 6.12.0",
	} {
		t.Run(says, func(t *testing.T) {
			_, err := unpackTree(t, given)
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("error %v does not say %q", err, says)
			}
		})
	}
}
