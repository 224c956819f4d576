package selftest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// benchOf starts ringproof bench on the default kernel alone.
func benchOf(t *testing.T, dir string, env []string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	k := lossless(t)
	program := filepath.Join(t.TempDir(), "ringproof")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, "../cmd/ringproof").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{"bench", "-base", k.Image, "-o", dir}, args...)...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &out
}

func status(t *testing.T, err error) int {
	t.Helper()
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

// TestInstructionsAgree: two boots of a kernel execute as many instructions for a packet,
// to the last one. ^C in between keeps what is done.
func TestInstructionsAgree(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "boots")
	args := []string{"-ruler", "instructions", "-rounds", "1", "-run", "^TestPath$/^via=tap$/^qdisc=pfifo_fast$/^free$"}
	cmd, out := benchOf(t, dir, nil, args...)
	var done string
	for deadline := time.Now().Add(3 * time.Minute); done == "" && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if found, _ := filepath.Glob(filepath.Join(first, "instructions-*-1", "outcome.json")); found != nil {
			done = found[0]
		}
	}
	if done == "" {
		t.Fatalf("no boot has ended: %s", out)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := status(t, cmd.Wait()); code != 130 || !strings.Contains(out.String(), "it was interrupted") {
		t.Errorf("exit status %d:\n%s", code, out)
	}
	before, err := os.Stat(done)
	if err != nil {
		t.Fatal(err)
	}
	cmd, out = benchOf(t, dir, nil, args...)
	_ = cmd.Wait()
	if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), "by the ruler of instructions no figure differs") {
		t.Errorf("two boots do not agree:\n%s", out)
	}
	if after, err := os.Stat(done); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("what was done was done again: %v", err)
	}
}

// TestQEMUWithoutIcount is named, and the rest goes on.
func TestQEMUWithoutIcount(t *testing.T) {
	dir := t.TempDir()
	qemu := filepath.Join(dir, "qemu-system-x86_64")
	script := "#!/bin/sh\nfor a; do [ \"$a\" = -icount ] && { echo 'qemu-system-x86_64: -icount: invalid option' >&2; exit 1; }; done\nexec qemu-system-x86_64 \"$@\"\n"
	if err := os.WriteFile(qemu, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd, out := benchOf(t, filepath.Join(dir, "out"), []string{"QEMU=" + qemu}, "-rounds", "1", "-boots", "1", "-run", "^TestFeatures$")
	if code := status(t, cmd.Wait()); code != 125 || !strings.Contains(out.String(), "Not run: instructions were not counted") {
		t.Errorf("exit status %d:\n%s", code, out)
	}
}
