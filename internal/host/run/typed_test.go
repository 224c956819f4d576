package run

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// locateThis is set for the go test that the test below starts.
const locateThis = "RINGPROOF_LOCATE"

// TestPathsAreWhereTheyWereTyped starts go test in each way and lets it look
// for a file.
func TestPathsAreWhereTheyWereTyped(t *testing.T) {
	module, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if name := os.Getenv(locateThis); name != "" {
		c := Config{Module: module, Kernel: name, Dir: "out"}
		if err := c.locateAll(); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\nat %s and %s\n", c.Kernel, c.Dir)
		return
	}
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "bzImage"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "linux")
	if err := os.Symlink(tree, link); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(module, "internal/host/run")
	for _, tt := range []struct {
		name, dir, pwd string
		args           []string
		kernel         string
		at, out        string
	}{
		{"go -C", tree, tree, []string{"-C", module, "test", "./internal/host/run"}, "./bzImage", tree + "/bzImage", tree + "/out"},
		{"go test -C, through a symbolic link", link, link, []string{"test", "-C", module, "./internal/host/run"}, "bzImage", link + "/bzImage", link + "/out"},
		{"file of the package", module, module, []string{"test", "./internal/host/run"}, "run.go", own + "/run.go", module + "/out"},
		{"package's directory", own, own, []string{"test"}, "run.go", own + "/run.go", own + "/out"},
		{"PWD of another directory", module, "/", []string{"test", "./internal/host/run"}, "go.mod", module + "/go.mod", "/out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append(tt.args, "-count=1", "-v", "-run=^TestPathsAreWhereTheyWereTyped$")
			cmd := exec.Command("go", args...)
			cmd.Dir = tt.dir
			cmd.Env = append(os.Environ(), "PWD="+tt.pwd, locateThis+"="+tt.kernel)
			out, err := cmd.CombinedOutput()
			if want := fmt.Sprintf("\nat %s and %s\n", tt.at, tt.out); err != nil || !strings.Contains(string(out), want) {
				t.Errorf("go %s in %s: %v; it does not say %q:\n%s", strings.Join(args, " "), tt.dir, err, want, out)
			}
		})
	}
}

func TestPathsThatAreNotThere(t *testing.T) {
	typed, module := t.TempDir(), t.TempDir()
	_, err := locate("KERNEL", "arch/bzImage", []string{typed, module})
	if err == nil {
		t.Fatal("no error")
	}
	for _, says := range []string{"KERNEL=arch/bzImage", typed + ", where the command was typed", module, "absolute"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
}
