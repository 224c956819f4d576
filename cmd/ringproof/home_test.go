package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A kernel tree whose make stops at once: a build that gets so far has read its
// source, and has made its copy, its repository and a build directory.
var stub = map[string]string{
	"Makefile":          "VERSION = 6\nall:\n",
	"Kbuild":            "obj-y += drivers/\n",
	"arch/x86/Kconfig":  "config X86\n",
	"drivers/net/tun.c": "tun\n",
	"s.diff":            "--- a/drivers/net/tun.c\n+++ b/drivers/net/tun.c\n@@ -1 +1 @@\n-tun\n+tap\n",
}

const reachedMake = "configure the kernel: make tinyconfig: make: ***"

// TestHomes builds in mount namespaces that are as machines have them where
// something cannot be written, or cannot be run.
func TestHomes(t *testing.T) {
	unshare := []string{"unshare", "--mount"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	if out, err := exec.Command(unshare[0], append(unshare[1:], "mount", "-t", "tmpfs", "none", "/mnt")...).CombinedOutput(); err != nil {
		t.Skipf("not run: this host gives no mount namespace: %v: %s", err, out)
	}
	program := filepath.Join(t.TempDir(), "ringproof")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, tt := range []struct {
		name   string
		script string // run in a directory with the empty directories cache, tmp and home, and with tree
		says   []string
	}{
		{"as usual", ``, []string{reachedMake}},
		{"source read-only", `mount --bind tree tree; mount -o remount,ro,bind tree`, []string{reachedMake}},
		{"source with git, read-only", `git -C tree init -q; git -C tree add -A; mount --bind tree tree; mount -o remount,ro,bind tree`, []string{reachedMake}},
		{"series read-only", `mkdir s; mv tree/s.diff s; mount --bind s s; mount -o remount,ro,bind s; SERIES=$PWD/s/s.diff`, []string{reachedMake}},
		{"TMPDIR that runs nothing", `mount -t tmpfs -o noexec none tmp`, []string{reachedMake}},
		{"TMPDIR that cannot be written", `mount -t tmpfs -o ro none tmp`, []string{reachedMake}},
		{"no HOME", `unset HOME`, []string{reachedMake}},
		{"no HOME, with git", `unset HOME; git -C tree init -q; git -C tree add -A`, []string{reachedMake}},
		{"no HOME, and no cache named", `unset HOME XDG_CACHE_HOME RINGPROOF_CACHE`, []string{"RINGPROOF_CACHE"}},
		{"HOME that is not there", `HOME=/no/such/home`, []string{reachedMake}},
		{"HOME that cannot be written", `unset RINGPROOF_CACHE XDG_CACHE_HOME; mount -t tmpfs -o ro none home`, []string{"read-only", "RINGPROOF_CACHE"}},
		{"cache read-only", `mount -t tmpfs -o ro none cache`, []string{"cache is on a file system that is mounted read-only", "RINGPROOF_CACHE"}},
		{"cache that became read-only", `"$PROGRAM" kernel -ksrc tree >/dev/null 2>&1 || :; mount --bind cache cache; mount -o remount,ro,bind cache`, []string{"mounted read-only", "RINGPROOF_CACHE"}},
		{"cache too small", `mount -t tmpfs -o size=1m none cache`, []string{"no space left in", "about", "needed", "RINGPROOF_CACHE"}},
		{"cache full", `mount -t tmpfs -o size=64k none cache; "$PROGRAM" kernel -ksrc tree >/dev/null 2>&1 || :; head -c 1m /dev/zero >cache/fill 2>/dev/null || :`, []string{"no space left in", "0 MB free", "RINGPROOF_CACHE"}},
		{"no inode left in the cache", `mount -t tmpfs -o nr_inodes=3 none cache`, []string{"no inode left in", "RINGPROOF_CACHE"}},
		{"kernels in another file system", `mkdir cache/kernels; mount -t tmpfs none cache/kernels; printf 'Signature: 8a477f597d28d172789f06886806bc55\n# This directory is ringproof'"'"'s cache. It may be deleted when no ringproof runs.\n' >cache/CACHEDIR.TAG`, []string{reachedMake}},
		{"trees in another file system, too small", `"$PROGRAM" kernel -ksrc tree >/dev/null 2>&1 || :; mount -t tmpfs -o size=1m none cache/trees`, []string{"no space left in", "cache/trees"}},
		{"no /dev/shm and no /var/tmp", `mount -t tmpfs none /var; mkdir /var/none; mount --bind /var/none /dev/shm`, []string{reachedMake}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for path, text := range stub {
				path := filepath.Join(dir, "tree", path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range []string{"cache", "tmp", "home"} {
				if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			c := exec.Command(unshare[0], append(unshare[1:], "sh", "-c", "set -e\n"+tt.script+"\nexec \"$PROGRAM\" kernel -ksrc tree -series \"${SERIES:-tree/s.diff}\"")...)
			c.Dir = dir
			c.Env = append(os.Environ(), "PROGRAM="+program, "RINGPROOF_CACHE="+dir+"/cache", "TMPDIR="+dir+"/tmp", "HOME="+dir+"/home")
			out, err := c.CombinedOutput()
			if err == nil {
				t.Fatal("it has built a kernel")
			}
			for _, want := range tt.says {
				if !strings.Contains(string(out), want) {
					t.Errorf("does not say %q", want)
				}
			}
			for _, twice := range []string{"RINGPROOF_CACHE", "make tinyconfig:"} {
				if strings.Count(string(out), twice) > 1 {
					t.Errorf("says %q twice", twice)
				}
			}
			t.Logf("%s", out)
		})
	}
}
