package selftest

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"golang.org/x/sys/unix"
)

// midway starts the short contract and waits until some checks of a test are
// decided, and others are not.
func midway(t *testing.T, test string) *harness {
	t.Helper()
	h := start(t, on(lossless(t)), "-short", "-run=TestNoqueueDrops|TestNoStall|TestNoTailDrop", withoutReattach)
	h.until(`"Action":"pass","Test":"` + test + `/`)
	return h
}

// cutShort holds a run that was ended midway to what it owes: no promise is
// reported as kept, what was found out before is there, no QEMU is left.
func (h *harness) cutShort() {
	h.t.Helper()
	h.gone()
	r := h.verdict()
	if len(r.Errors) == 0 {
		h.t.Error("no error in the verdict")
	}
	before := 0
	for _, v := range r.Verdicts {
		if v.Outcome == contract.Kept {
			before++
		}
	}
	if before == 0 {
		h.t.Error("what was decided before is lost")
	}
	for _, p := range r.Promises() {
		if p.Outcome == contract.Kept {
			h.t.Errorf("%s: kept, though not all of its checks ran", p.Promise)
		}
	}
}

func TestQEMUKilled(t *testing.T) {
	h := midway(t, "TestNoqueueDrops")
	pids := h.qemus()
	if len(pids) != 1 {
		t.Fatalf("QEMUs: %v", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if h.wait() == 0 {
		t.Error("exit status 0")
	}
	h.says("QEMU", "kill")
	// The tests that did not run yet have had another VM.
	if _, err := os.Stat(filepath.Join(h.dir, "vm-2", "console.log")); err != nil {
		t.Error(err)
	}
	h.gone()
	for _, p := range h.verdict().Promises() {
		if p.Promise == contract.RequeueIntact {
			continue // not tried
		}
		if p.Outcome != contract.Undecided || p.Kept == 0 {
			t.Errorf("%s: %s, %d kept; want undecided, for what did not run, and some kept, for what did", p.Promise, p.Outcome, p.Kept)
		}
	}
}

func TestInterrupted(t *testing.T) {
	h := midway(t, "TestNoTailDrop")
	// What ^C on a terminal does: to every process of the group.
	if err := syscall.Kill(-h.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if h.wait() == 0 {
		t.Error("exit status 0")
	}
	t.Logf("%v from ^C to the end", time.Since(began).Round(time.Millisecond))
	h.cutShort()
}

func TestKilled(t *testing.T) {
	h := midway(t, "TestNoTailDrop")
	pids := h.qemus()
	if len(pids) != 1 {
		t.Fatalf("QEMUs: %v", pids)
	}
	if err := syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = h.cmd.Wait()
	h.gone()
	if events, err := os.ReadFile(filepath.Join(h.dir, "events.jsonl")); err != nil || !strings.Contains(string(events), contract.AttrVerdict) {
		t.Errorf("what was found out before is lost: %v", err)
	}
}

func TestTimeout(t *testing.T) {
	// More rounds than fit into the time on any machine: some are left over.
	h, code := run(t, on(lossless(t)), "-timeout=30s", "-short", "-count=100")
	if code == 0 {
		t.Error("exit status 0")
	}
	h.cutShort()
	h.says("test timed out", "no time for another VM")
}

// TestFullDisk: the artifacts do not fit. The run says so and does not pass;
// the verdicts are on the terminal all the same.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("not run: cannot mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	h, code := run(t, on(lossless(t), "ARTIFACTS="+filepath.Join(dir, "run")), "-short", "-run=TestNoTailDrop")
	if code == 0 {
		t.Error("exit status 0")
	}
	h.says("no space left on device", "no-tail-drop    kept")
	h.gone()
}

// TestTwoAtOnce: neither disturbs the other.
func TestTwoAtOnce(t *testing.T) {
	k := lossless(t)
	a := start(t, on(k), "-run=TestKernel|TestNoqueueDrops", "-short")
	b := start(t, on(k), "-run=TestKernel|TestNoqueueDrops", "-short")
	for _, h := range []*harness{a, b} {
		if code := h.wait(); code != 0 {
			t.Errorf("exit status %d:\n%s", code, h.out)
		}
	}
}

// TestNoTrace: a run leaves nothing but its artifacts.
func TestNoTrace(t *testing.T) {
	tmp := t.TempDir()
	if h, code := run(t, on(lossless(t), "TMPDIR="+tmp), "-run=TestKernel"); code != 0 {
		t.Errorf("exit status %d:\n%s", code, h.out)
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("left behind in the directory for temporary files: %s", e.Name())
	}
}
