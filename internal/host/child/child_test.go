package child

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
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

// TestChildOutlivesTheThreadThatStartedIt: threads come and go in a Go process,
// and no program may be ended by that.
func TestChildOutlivesTheThreadThatStartedIt(t *testing.T) {
	// With one P, who returns from fork is soon on another thread.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	done := make(chan error)
	const programs = 32
	for range programs {
		go func() {
			c := exec.Command("sleep", "0.3")
			done <- Run(c, syscall.SIGTERM, c.Run)
		}()
	}
	stop := make(chan struct{})
	var threads sync.WaitGroup
	for range 2 {
		threads.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Microsecond):
				}
				var one sync.WaitGroup
				one.Go(runtime.LockOSThread) // its thread ends with it
				one.Wait()
			}
		})
	}
	for range programs {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	close(stop)
	threads.Wait()
}
