package child

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is the parent that dies, if it is told so.
func TestMain(m *testing.M) {
	if file := os.Getenv("RINGPROOF_CHILD_TEST"); file != "" {
		c := exec.Command("sh", "-c", "echo $$ >"+file+".tmp; mv "+file+".tmp "+file+"; exec sleep 1000")
		_ = Run(c, syscall.SIGKILL, c.Run)
	}
	os.Exit(m.Run())
}

// TestDeathOfTheParentEndsTheChild: by SIGKILL, after which nothing can be done.
func TestDeathOfTheParentEndsTheChild(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "RINGPROOF_CHILD_TEST="+file)
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid string
	for deadline := time.Now().Add(30 * time.Second); pid == ""; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(file)
		if pid = strings.TrimSpace(string(text)); err != nil && time.Now().After(deadline) {
			t.Fatal("the child does not run")
		}
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			n, _ := strconv.Atoi(pid)
			_ = syscall.Kill(n, syscall.SIGKILL)
			t.Fatal("the child outlives its parent")
		}
	}
}

// TestChildOutlivesOtherThreads: the end of a thread that others lock is not the
// parent's death.
func TestChildOutlivesOtherThreads(t *testing.T) {
	c := exec.Command("sleep", "0.3")
	done := make(chan error)
	go func() { done <- Run(c, syscall.SIGKILL, c.Run) }()
	for range 200 {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			// Locked, and never unlocked: its thread ends with it.
			runtime.LockOSThread()
		}()
		<-ended
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
