package kernel

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/host/meter"
)

func TestStepsAreCountedAndComplaintsKept(t *testing.T) {
	const output = `make[1]: Entering directory '/obj'
  GEN     Makefile
  CC      drivers/net/tun.o
  CC [M]  drivers/net/veth.o
/src/drivers/net/tun.c: In function 'tun_net_xmit':
/src/drivers/net/tun.c:1054:9: error: implicit declaration of function 'foo'
 1054 |         foo(skb);
      |         ^~~
  AR      net/built-in.a
cc1: some warnings being treated as errors
make[5]: *** [/src/scripts/Makefile.build:229: drivers/net/tun.o] Error 1
make[4]: *** [/src/scripts/Makefile.build:478: drivers/net] Error 2
`
	var log, shown strings.Builder
	m := meter.New(&shown, "building base", "steps", 10)
	told := strings.Join(telling(follow(strings.NewReader(output), &log, m)), "\n")
	m.End(false)
	if log.String() != output {
		t.Errorf("the log is\n%s", log.String())
	}
	for _, want := range []string{"In function", "error: implicit", "foo(skb);"} {
		if !strings.Contains(told, want) {
			t.Errorf("%q is not in what is shown:\n%s", want, told)
		}
	}
	if strings.Contains(told, "Error 2") {
		t.Errorf("shows make's stack:\n%s", told)
	}
	if got := shown.String(); got != "building base: not finished, 4 steps in 0s\n" {
		t.Errorf("progress %q", got)
	}
}

func TestCancelEndsTheWholeGroup(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	// A make that ignores the interrupt, with a child in the background.
	c := command(ctx, "sh", "-c", `trap "" INT; sleep 1000 & echo $! >child; echo $$ >self; wait; sleep 1000`).in(dir)
	go func() {
		for !exists(filepath.Join(dir, "self")) {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	c.WaitDelay = 500 * time.Millisecond
	if _, err := c.output(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"self", "child"} {
		pid, err := strconv.Atoi(strings.TrimSpace(contentOf(t, filepath.Join(dir, name))))
		if err != nil {
			t.Fatal(err)
		}
		alive := func() bool {
			stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
			return err == nil && !strings.Contains(string(stat), ") Z ")
		}
		for deadline := time.Now().Add(5 * time.Second); alive(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s, process %d, is still there", name, pid)
			}
		}
	}
}

func TestEnvironmentOfTheUserDoesNotReachTheBuild(t *testing.T) {
	for _, name := range []string{"MAKEFLAGS", "GIT_DIR", "ARCH", "KCONFIG_CONFIG"} {
		t.Setenv(name, "surprise")
	}
	for _, name := range []string{"C_INCLUDE_PATH", "PKG_CONFIG_PATH", "NIX_CFLAGS_COMPILE"} {
		t.Setenv(name, "/opt/include")
	}
	out, err := command(t.Context(), "env").output()
	if err != nil || strings.Contains(out, "surprise") || !strings.Contains(out, "PATH=") {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Count(out, "=/opt/include\n") != 3 {
		t.Errorf("lacks what says where a compiler has its headers:\n%s", out)
	}
}

func TestFullDiskIsRecognised(t *testing.T) {
	dir := t.TempDir()
	_, err := command(t.Context(), "sh", "-c", "cat /proc/self/status >/dev/full").output()
	err = diskFull(err, dir)
	var full *DiskFullError
	if !errors.As(err, &full) || full.Dir != dir || full.Free == 0 || !strings.Contains(err.Error(), "MB free") {
		t.Errorf("from a program: %v", err)
	}
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = io.WriteString(f, "x")
	if err := diskFull(err, dir); !errors.As(err, &full) {
		t.Errorf("from ourselves: %v", err)
	}
	if err := diskFull(syscall.EIO, dir); errors.As(err, &full) {
		t.Errorf("EIO became %v", err)
	}
	if err := requireRoom(dir, 1<<62); !errors.As(err, &full) || full.Need != 1<<62 {
		t.Errorf("required too much: %v", err)
	}
}

func TestKilledMakeIsRepaired(t *testing.T) {
	dir := t.TempDir()
	o := &objects{tree: &tree{dir: dir}, dir: filepath.Join(dir, "base")}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		name    string
		minutes int // when it was written
		kept    bool
	}{
		{"base/before.o", 0, true},
		{"base.unfinished", 1, false},
		{"base/whole.o", 2, true},
		{"base/.whole.o.cmd", 3, true},
		{"base/.half.o.cmd", 0, true},
		{"base/half.o", 2, false},
		{"base/autoconf.h", 2, true},
		{"base/last.o", 9, false},
		{"base/.last.o.cmd", 9, false},
	} {
		path := filepath.Join(dir, f.name)
		at := time.Now().Add(time.Duration(f.minutes-60) * time.Minute)
		files{f.name: ""}.write(t, dir)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if exists(path) != f.kept {
				t.Errorf("%s kept: %v, want %v", f.name, exists(path), f.kept)
			}
		}()
	}
	if err := o.open(); err != nil {
		t.Fatal(err)
	}
}

func TestMissingPackagesAreNamedWithTheCommand(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	missing := MissingPackages(Spec{Source: "/some/tree"})
	err := &MissingError{missing}
	for _, want := range []string{"apt-get install", " git", " flex", " bison", " bc", " gcc", " make", " lz4", "applies the series"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), debianPackage) || strings.Contains(err.Error(), "xz-utils") {
		t.Errorf("asks for what a tree of the user's does not need:\n%v", err)
	}
	_, buildErr := Build(t.Context(), Spec{Source: "/some/tree"}, io.Discard)
	var me *MissingError
	if !errors.As(buildErr, &me) {
		t.Errorf("Build says %v", buildErr)
	}
}

func TestKeyTellsEverythingApart(t *testing.T) {
	seen := make(map[string]int)
	for i, parts := range [][]string{
		nil, {""}, {"", ""}, {"a"}, {"a", "b"}, {"ab"}, {"a\nb"}, {"b", "a"},
	} {
		k := key(parts)
		if len(k) != 32 {
			t.Errorf("key %q", k)
		}
		if j, ok := seen[k]; ok {
			t.Errorf("%d and %d have one key", i, j)
		}
		seen[k] = i
	}
}
