package kernel

import (
	"errors"
	"fmt"

	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// hostile is a Makefile that tries what a build has no business with, and notes
// in the file $(DID) what it could do.
const hostile = `
try = -@$(1) 2>/dev/null && echo $(2) >>$(DID)
tinyconfig:
	$(call try,echo x >$(HOME)/written,wrote-home)
	$(call try,echo x >$(SOURCE)/written,wrote-source)
	$(call try,rm $(SOURCE)/Kbuild,removed-source)
	$(call try,grep -q secret $(HOME)/.ssh/id,read-ssh)
	$(call try,bash -c 'exec 3<>/dev/tcp/127.0.0.1/PORT',reached-network)
	$(call try,test -S $(HOME)/agent,saw-socket)
	$(call try,kill -0 PID,saw-process)
	$(call try,mount -o remount$(comma)rw /,remounted)
	$(call try,tool && gcc-99 && test -f $(HOME)/cross/lib/specs,found-tools)
	$(call try,echo x >/tmp/ringproof-scratch && rm /tmp/ringproof-scratch,wrote-tmp)
	@echo end >>$(DID)
comma := ,
`

// A series whose Makefile tries to write to HOME, to read ~/.ssh and to reach the
// network does so without a confinement, and fails to with it.
func TestHostileMakefileIsConfined(t *testing.T) {
	isolate(t)
	home := os.Getenv("HOME")
	files{".ssh/id": "secret\n", "bin/tool": "#!/bin/sh\n", "cross/bin/gcc-99": "#!/bin/sh\n", "cross/lib/specs": "x\n"}.write(t, home)
	for _, tool := range []string{"bin/tool", "cross/bin/gcc-99"} {
		if err := os.Chmod(filepath.Join(home, tool), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// As shells have it that read their profile twice.
	for range 2 {
		t.Setenv("PATH", os.Getenv("PATH")+":"+filepath.Join(home, "bin")+":"+filepath.Join(home, "cross/bin"))
	}
	agent, err := net.Listen("unix", filepath.Join(home, "agent"))
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	network, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	makefile := strings.NewReplacer(
		"PORT", fmt.Sprint(network.Addr().(*net.TCPAddr).Port), "PID", fmt.Sprint(os.Getpid()),
	).Replace(hostile)

	free := t.TempDir()
	files{"Makefile": makefile, "Kbuild": "x\n"}.write(t, free)
	did := filepath.Join(free, "did")
	if out, err := exec.Command("make", "-C", free, "tinyconfig", "SOURCE="+free, "DID="+did).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, deed := range []string{"wrote-home", "wrote-source", "removed-source", "read-ssh", "reached-network", "saw-socket", "saw-process", "wrote-tmp"} {
		if !strings.Contains(contentOf(t, did), deed) {
			t.Errorf("unconfined, it could do no %s: the test shows nothing", deed)
		}
	}
	if err := os.Remove(filepath.Join(home, "written")); err != nil {
		t.Fatal(err)
	}

	source := sources["git"](t)
	dir := mustPrepare(t, source, makeSeries(t, files{"Makefile": makefile}))
	obj := filepath.Join(t.TempDir(), "obj")
	if err := os.Mkdir(obj, 0o755); err != nil {
		t.Fatal(err)
	}
	did = filepath.Join(obj, "did")
	box := newConfinement(dir, obj)
	user, err := tryConfinement(t.Context(), box)
	var none *errUnconfined
	if errors.As(err, &none) {
		t.Skip("not run: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	for _, user := range []bool{user, user && os.Geteuid() != 0} { // root has both ways
		c := command(t.Context(), "make", "-C", dir, "tinyconfig", "SOURCE="+dir, "DID="+did)
		if err := box.apply(c, user); err != nil {
			t.Fatal(err)
		}
		if out, err := c.output(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := contentOf(t, did); got != "found-tools\nwrote-tmp\nend\n" {
			t.Errorf("with a user namespace: %v; confined, it did\n%s", user, got)
		}
		if err := os.Remove(did); err != nil {
			t.Fatal(err)
		}
	}
	if exists(filepath.Join(home, "written")) || !exists(filepath.Join(dir, "Kbuild")) {
		t.Error("files outside of the build directory were changed")
	}
}

// The way that a build takes: make is confined, fails, and that is told as ever.
func TestBuildIsConfined(t *testing.T) {
	isolate(t)
	o := &objects{tree: &tree{src: t.TempDir(), dir: t.TempDir()}, dir: t.TempDir()}
	var progress strings.Builder
	if err := o.confine(t.Context(), &progress); err != nil {
		t.Fatal(err)
	}
	if o.confinement == nil {
		if !strings.Contains(progress.String(), "no namespaces") {
			t.Errorf("unconfined, and only said %q", progress.String())
		}
		t.Skip("not run: ", progress.String())
	}
	for script, want := range map[string]string{"exit 3": "exit status 3", "kill -9 $$": "killed", "echo why >&2; false": "why"} {
		c := command(t.Context(), "sh", "-c", script)
		if err := o.confinement.apply(c, o.userNamespace); err != nil {
			t.Fatal(err)
		}
		if _, err := c.output(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", script, err, want)
		}
	}
}
