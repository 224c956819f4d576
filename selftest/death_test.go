package selftest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/cache"
	"github.com/ringproof/ringproof/internal/host/report"
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

// within says whether a check has begun and has given no verdict yet. The guest is
// stopped.
func (h *harness) within() bool {
	h.t.Helper()
	time.Sleep(100 * time.Millisecond) // for what is on its way to the file
	events, err := os.ReadFile(filepath.Join(h.dir, "events.jsonl"))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.LastIndex(string(events), contract.AttrOwes) > strings.LastIndex(string(events), contract.AttrVerdict)
}

func TestQEMUKilled(t *testing.T) {
	h := midway(t, "TestNoqueueDrops")
	pids := h.qemus()
	if len(pids) != 1 {
		t.Fatalf("QEMUs: %v", pids)
	}
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(pids[0], s); err != nil {
			t.Fatal(err)
		}
	}
	// It is stopped first, because between two checks none would be undecided.
	for signal(syscall.SIGSTOP); !h.within(); signal(syscall.SIGSTOP) {
		signal(syscall.SIGCONT)
		time.Sleep(10 * time.Millisecond)
	}
	signal(syscall.SIGKILL)
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
		want := contract.Undecided // by the check that ran
		switch p.Promise {
		case contract.RequeueIntact, contract.OptInFlag:
			continue // not tried
		case contract.NoTailDrop:
			want = contract.Kept
		}
		if p.Outcome != want || p.Kept == 0 || p.Undecided > 1 {
			t.Errorf("%s: %s, %d kept, %d undecided; want one undecided, and the others kept in another VM", p.Promise, p.Outcome, p.Kept, p.Undecided)
		}
	}
	if !h.verdict().Has(report.SetUp) {
		t.Errorf("no fault of the set-up: %v", h.verdict().Errors)
	}
	h.forms()
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

// TestTerminated ends the process that runs the tests, and the one that started it,
// which passes nothing on: what was found out is written all the same.
func TestTerminated(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *harness) error{
		"the tests": func(t *testing.T, h *harness) error {
			pids := h.processes("vmtests.test")
			if len(pids) != 1 {
				t.Fatalf("processes that run the tests: %v", pids)
			}
			return syscall.Kill(pids[0], syscall.SIGTERM)
		},
		"go test": func(_ *testing.T, h *harness) error { return h.cmd.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			h := midway(t, "TestNoTailDrop")
			if err := end(t, h); err != nil {
				t.Fatal(err)
			}
			if h.wait() == 0 {
				t.Error("exit status 0")
			}
			for deadline := time.Now().Add(20 * time.Second); len(h.processes("vmtests.test")) > 0 && time.Now().Before(deadline); {
				time.Sleep(20 * time.Millisecond)
			}
			h.cutShort()
			if !h.verdict().Has(report.SetUp) {
				t.Errorf("no fault of the set-up: %v", h.verdict().Errors)
			}
		})
	}
}

// TestEndsEarly ends each check at one of its steps, from the first on, and holds
// the verdict to what each owes.
func TestEndsEarly(t *testing.T) {
	h, code := run(t, on(lossless(t), "RINGPROOF_END=fatal"), "-short", "-run=TestNoTailDrop|TestSchedules")
	if code == 0 {
		t.Error("exit status 0")
	}
	verdicts := make(map[string][]contract.Outcome)
	for _, v := range h.verdict().Verdicts {
		key := v.Test + " " + string(v.Promise)
		verdicts[key] = append(verdicts[key], v.Outcome)
	}
	events, err := os.ReadFile(filepath.Join(h.dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	owes, failed := make(map[string]contract.Owes), 0
	for line := range strings.Lines(string(events)) {
		var e struct{ Action, Test, Key, Value string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Key == contract.AttrOwes {
			var o contract.Owes
			if err := json.Unmarshal([]byte(e.Value), &o); err != nil {
				t.Fatal(err)
			}
			owes[e.Test] = o
		}
		if e.Action != "fail" || len(owes[e.Test].Promises) == 0 {
			continue
		}
		failed++
		open := 0
		for _, p := range owes[e.Test].Promises {
			outcomes := verdicts[e.Test+" "+string(p)]
			if len(outcomes) != 1 {
				t.Errorf("%s has %d verdicts on %s", e.Test, len(outcomes), p)
			} else if outcomes[0] == contract.Undecided {
				open++
			}
		}
		if open == 0 {
			t.Errorf("%s failed, and nothing is undecided", e.Test)
		}
	}
	// So many steps the shortest check has, and more.
	if failed < 12 {
		t.Errorf("%d checks ended early", failed)
	}
	for _, f := range h.verdict().Errors {
		t.Errorf("%v", f)
	}
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
	if r := h.verdict(); len(r.Verdicts) == 0 || !r.Has(report.SetUp) {
		t.Errorf("%d verdicts, and does not say that it was killed: %v", len(r.Verdicts), r.Errors)
	}
}

// TestTimeout: what does not fit into go test's -timeout is not run, and said to be;
// what was decided stands.
func TestTimeout(t *testing.T) {
	// More rounds than fit into the time on any machine: some are left over.
	h, code := run(t, on(lossless(t)), "-timeout=60s", "-count=5", "-run=TestNoqueueDrops|TestNoTailDrop")
	if code == 0 {
		t.Error("exit status 0")
	}
	h.says("go test's -timeout left no time for", "-timeout=30m -run '^(TestNoTailDrop|TestNoqueueDrops)$'")
	h.gone()
	r := h.verdict()
	if len(r.Errors) != 1 || r.Errors[0].Kind != report.SetUp {
		t.Errorf("want one fault of the set-up: %v", r.Errors)
	}
	for _, p := range r.Promises() {
		if p.Broken+p.Undecided > 0 {
			t.Errorf("%s: %d broken, %d undecided", p.Promise, p.Broken, p.Undecided)
		}
		if p.Promise == contract.NoqueueDrops && (p.Kept == 0 || p.NotRun == 0) {
			t.Errorf("%s: %d kept, %d not run", p.Promise, p.Kept, p.NotRun)
		}
	}
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

// TestNothingToWriteTo: a clone that is mounted read-only, without a home
// directory, and with a TMPDIR that is mounted noexec. What go needs is named.
func TestNothingToWriteTo(t *testing.T) {
	k := lossless(t)
	unshare := []string{"unshare", "--mount"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--user", "--map-current-user", "--keep-caps")
	}
	if out, err := exec.Command(unshare[0], append(unshare[1:], "mount", "-t", "tmpfs", "none", "/mnt")...).CombinedOutput(); err != nil {
		t.Skipf("not run: this host gives no mount namespace: %v: %s", err, out)
	}
	root, err := cache.Root()
	if err != nil {
		t.Fatal(err)
	}
	env := on(k, cache.Env+"="+root, "TMPDIR="+t.TempDir(), "GOTMPDIR="+t.TempDir())
	for _, name := range []string{"GOCACHE", "GOPATH", "GOMODCACHE"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	script := `unset HOME && mount --bind . . && cd "$PWD" && mount -o remount,ro,bind . && ! touch here 2>/dev/null && mount -t tmpfs -o noexec none "$TMPDIR" && exec "$@"`
	h := startBy(t, append(unshare, "sh", "-c", script, "sh"), env, "-v", "-run=TestKernel")
	if code := h.wait(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, h.out)
	}
	h.says("artifacts/last does not name this run")
	if r := h.verdict(); len(r.Errors) != 0 {
		t.Errorf("the run has faults: %v", r.Errors)
	}
}
