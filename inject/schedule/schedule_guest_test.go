package schedule

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"golang.org/x/sys/unix"
)

func newRunner(t *testing.T) *Runner {
	t.Helper()
	guesttest.Need(t, "holds up CPUs")
	r, err := NewRunner(tun.Driver)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.Pin(); err != nil {
		t.Fatal(err)
	}
	return r
}

// opponent is the one of that name.
func opponent(t *testing.T, name string) *driver.Opponent {
	t.Helper()
	for _, o := range Opponents(tun.Driver) {
		if o.Name == name {
			return o
		}
	}
	t.Fatalf("no opponent %s", name)
	return nil
}

// small is a setting that takes little time.
var small = stage.Setting{Setup: driver.Setup{Ring: 2, Qdisc: netdev.FQCodel}}

// start is where a packet comes by for sure.
func start(t *testing.T) disasm.Point {
	t.Helper()
	f, err := disasm.Disassemble("tun_net_xmit")
	if err != nil {
		t.Fatal(err)
	}
	return f.Points[0]
}

func TestIDs(t *testing.T) {
	guesttest.Need(t, "holds up CPUs")
	for id, want := range map[string]string{
		"tun_net_xmit+0x0/drain-all/ring=16/fq_codel":                       "",
		"tun_net_xmit+0x0/second-fills/ring=2/noqueue/trim=4":               "",
		"tun_do_read+0x0/fill/ring=500/mq/left=1":                           "",
		"tun_net_xmit+0x0/drain-all/ring=2/fq_codel/woken":                  "",
		"tun_do_read+0x0/fill/ring=2/fq_codel/left=1/woken":                 "woken",
		"handle_rx+0x0/fill/ring=16/fq_codel/left=1/vhost":                  "",
		"tun_net_xmit+0x0/second-fills/ring=2/fq_codel/trim=4/backpressure": "",
		"tun_do_read+0x0&tun_net_xmit+0x0/ring=2/mq/backpressure":           "",
		"tun_net_xmit+0x1/drain-all/ring=16/fq_codel":                       "no instruction of the running kernel begins at tun_net_xmit+0x1",
		"tun_net_xmit+0x99999/drain-all/ring=16/fq_codel":                   "no instruction",
		"no_such_function+0x0/drain-all/ring=16/fq_codel":                   "no function no_such_function",
		"tun_net_xmit+0x0/stand-by/ring=16/fq_codel":                        `no opponent "stand-by"`,
		"tun_net_xmit+0x0/drain-all/ring=16/fq_codel/left=1":                "left=",
		"tun_do_read+0x0/fill/ring=500/mq":                                  "left=",
		"tun_net_xmit/drain-all/ring=16/fq_codel":                           "is no schedule",
		"tun_do_read+0x0&tun_net_xmit+0x0/ring=2/mq":                        "",
		"tun_net_xmit+0x0&tun_do_read+0x0/drain-all/ring=2/mq":              "is no pair",
		"tun_net_xmit+0x0&tun_do_read+0x0~tun_do_read+0x0/ring=1/mq":        "",
		"tun_do_read+0x0&tun_net_xmit+0x0:2~tun_do_read+0x0:3/ring=1/mq":    "",
		"tun_net_xmit+0x0&tun_do_read+0x0~tun_do_read+0x1/ring=1/mq":        "no instruction of the running kernel begins at tun_do_read+0x1",
		"tun_net_xmit+0x0&tun_do_read+0x0@tun_do_read+0x0:2/ring=1/mq":      "",
		"tun_net_xmit+0x0&tun_do_read+0x0@tun_do_read+0x1/ring=1/mq":        "no instruction of the running kernel begins at tun_do_read+0x1",
		"tun_net_xmit+0x0~tun_do_read+0x0/ring=1/mq":                        "is no schedule",
		"tun_net_xmit+0x0&tun_do_read+0x0~tun_do_read+0x0/ring=1/mq/woken":  "a delayed store has no",
		"tun_net_xmit+0x0/drain-all/ring=2/mq/napi":                         `tun has no consumer "napi"`,
		"tun_net_xmit+0x0&tun_do_read+0x0/ring=2/mq/trim=4":                 "a pair has no",
	} {
		var got string
		var err error
		if strings.Contains(id, "&") && strings.ContainsAny(id, late+early) {
			var p Store
			if p, err = ParseStore(tun.Driver, id); err == nil {
				got = p.String()
			}
		} else if strings.Contains(id, "&") {
			var p Pair
			if p, err = ParsePair(tun.Driver, id); err == nil {
				got = p.String()
			}
		} else {
			var s Schedule
			if s, err = Parse(tun.Driver, id); err == nil {
				got = s.String()
			}
		}
		switch {
		case want == "" && (err != nil || got != id):
			t.Errorf("%s: have %s, %v", id, got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: have %v, want %q", id, err, want)
		}
	}
}

// TestAnInlinedFunction: it is told apart from one that is never reached.
func TestAnInlinedFunction(t *testing.T) {
	guesttest.Need(t, "holds up CPUs")
	_, err := disasm.Disassemble("ptr_ring_produce")
	if none := (*disasm.NoFunctionError)(nil); !errors.As(err, &none) || !strings.Contains(err.Error(), "inlined") {
		t.Errorf("have %v, want a disasm.NoFunctionError", err)
	}
}

// TestAPauseThatIsNeverReleased ends by itself, and no schedule is decided.
func TestAPauseThatIsNeverReleased(t *testing.T) {
	r := newRunner(t)
	sleepy := &driver.Opponent{Name: "sleepy", Act: func(driver.Bench) error { time.Sleep(2 * hold); return nil }}
	began := time.Now()
	result, err := r.Run(Schedule{start(t), sleepy, small}, stage.Suspicion)
	if err != nil {
		t.Fatal(err)
	}
	if !result.Reached || !result.Late || result.Decisive() {
		t.Errorf("have %+v, want reached and late", result)
	}
	if took := time.Since(began); took > 10*hold {
		t.Errorf("it took %v", took)
	}
}

// TestAPauseThatRunsOutOfRounds ends before its time is over, and no schedule is
// decided; nor is its opponent taken for one that waits.
func TestAPauseThatRunsOutOfRounds(t *testing.T) {
	r := newRunner(t)
	r.pauser.Rounds = 0
	quick := &driver.Opponent{Name: "quick", Act: func(driver.Bench) error { time.Sleep(hold / 2); return nil }}
	s := Schedule{start(t), quick, small}
	result, err := r.Run(s, stage.Suspicion)
	if err != nil {
		t.Fatal(err)
	}
	if !result.Reached || !result.Late || result.Decisive() || len(r.waits) > 0 {
		t.Errorf("have %+v, opponents that wait: %v; want reached, late and none", result, r.waits)
	}
	pair, err := ParsePair(tun.Driver, "tun_do_read+0x0&tun_net_xmit+0x0/ring=2/fq_codel")
	if err != nil {
		t.Fatal(err)
	}
	if result, err = r.RunPair(pair, stage.Suspicion); err != nil {
		t.Fatal(err)
	} else if result.Reached && result.Decisive() {
		t.Errorf("a pair: have %+v, want late", result)
	}
	r.pauser.Rounds = breakpoint.MaxRounds
	if result, err = r.Run(s, stage.Suspicion); err != nil {
		t.Fatal(err)
	} else if !result.Decisive() {
		t.Errorf("with all rounds: have %+v, want decisive", result)
	}
}

// TestWhoWaits: an opponent that takes its time is told from one that spins for
// a lock of the one that is held up.
func TestWhoWaits(t *testing.T) {
	r := newRunner(t)
	slow := &driver.Opponent{Name: "slow", Waits: true, Act: func(b driver.Bench) error {
		for began := time.Now(); time.Since(began) < 3*spun; {
		}
		_, err := b.Drain(driver.All)
		return err
	}}
	const times = 60
	waited, late := 0, 0
	for range times {
		result, err := r.Run(Schedule{start(t), slow, small}, stage.Suspicion)
		if err != nil {
			t.Fatal(err)
		}
		// One that comes upon a page for the first time has all CPUs flush
		// their TLBs, and that of the one that is held up does not answer.
		if result.Late {
			late++
		}
		if result.Waited {
			waited++
		}
	}
	// A third may have had a lock, on a CPU that did not run for a moment. If
	// its time alone told, all of them would wait.
	t.Logf("of %d runs, it is said to wait in %d, and to be too late in %d", times, waited, late)
	if waited+late > times/2 {
		t.Errorf("of %d runs of a slow opponent, it is said to wait in %d, and to be too late in %d", times, waited, late)
	}

	f, err := disasm.Disassemble("tun_net_xmit")
	if err != nil {
		t.Fatal(err)
	}
	locked := disasm.Critical([]*disasm.Function{f}, f.Points)[1] // it has the lock of the ring
	if !f.Points[slices.Index(f.Points, locked)-1].TakesSpinlock() {
		t.Fatalf("%v is not behind a lock", locked)
	}
	quickest := hold
	for range times / 3 {
		began := time.Now()
		result, err := r.Run(Schedule{locked, opponent(t, "second-fills"), small}, stage.Suspicion)
		switch {
		case err != nil:
			t.Fatal(err)
		case result.Decisive() && !result.Waited:
			t.Fatalf("have %+v, want one that waited", result)
		case result.Decisive():
			quickest = min(quickest, time.Since(began))
		}
	}
	if quickest > hold/2 {
		t.Errorf("it took at least %v to see that an opponent spins", quickest)
	}
}

// TestHeldUpBeforeSleep: a consumer is held up when it has said that it sleeps and
// does not yet. To see whether it sleeps must not take until it goes on.
func TestHeldUpBeforeSleep(t *testing.T) {
	r := newRunner(t)
	functions, err := disasm.Reach("tun_chr_read_iter")
	if err != nil {
		t.Fatal(err)
	}
	var before disasm.Point
	for _, f := range functions {
		for _, p := range f.Points {
			if strings.HasSuffix(p.Text, " schedule") { // and not preempt_schedule
				before = p
			}
		}
	}
	const times = 20
	late := 0
	for range times {
		result, err := r.Run(Schedule{before, opponent(t, "send-one"), small}, stage.Suspicion)
		if err != nil {
			t.Fatal(err)
		}
		if !result.Reached {
			t.Fatalf("%v (%s) is not reached", before, before.Text)
		}
		if result.Late {
			late++
		}
	}
	if late > times/4 {
		t.Errorf("held up at %v (%s), the consumer was let go on too late in %d of %d runs", before, before.Text, late, times)
	}
}

// TestBooksOfTheImpatient: the time may pass while the VM does not run. Packets
// that are on their way then are still waited for.
func TestBooksOfTheImpatient(t *testing.T) {
	r := newRunner(t)
	for _, name := range []string{"drain-all", "drain-bad"} {
		for range 20 {
			result, err := r.Run(Schedule{start(t), opponent(t, name), stage.Setting{Setup: driver.Setup{Ring: 16, Qdisc: netdev.FQCodel}}}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if result.Unbalanced != nil {
				t.Fatalf("%s: %v", name, result.Unbalanced)
			}
		}
	}
}

// TestKprobes: with all breakpoints of the CPU taken, kprobes do the same.
func TestKprobes(t *testing.T) {
	r := newRunner(t)
	f, err := disasm.Disassemble("tun_net_xmit")
	if err != nil {
		t.Fatal(err)
	}
	few := &disasm.Function{Name: f.Name, Points: f.Points[:12]}
	want, _, err := r.Reached([]*disasm.Function{few}, Nothing, small)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.trap.Close(); err != nil {
		t.Fatal(err)
	}
	attr := breakpoint.Attr(f.Points[len(f.Points)-1])
	for taken := 0; ; taken++ {
		fd, err := unix.PerfEventOpen(&attr, -1, victimCPU, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if errors.Is(err, unix.ENOSPC) && taken > 0 {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	got, _, err := r.Reached([]*disasm.Function{few}, Nothing, small)
	if err != nil {
		t.Fatal(err)
	}
	if !r.trap.IsKprobe() {
		t.Fatal("no kprobe was used")
	}
	t.Logf("%d of %d points reached by breakpoints, %d by kprobes; %v", len(want), len(few.Points), len(got), few.Skipped)
	if len(want) == 0 || len(got)+len(few.Skipped) < len(want) {
		t.Errorf("%d points are reached by kprobes, and %d cannot be, but breakpoints reach %d", len(got), len(few.Skipped), len(want))
	}
	result, err := r.Run(Schedule{want[0], opponent(t, "drain-all"), small}, stage.Suspicion)
	if err != nil || !result.Decisive() || result.Stalled != "" {
		t.Errorf("have %+v, %v", result, err)
	}

	// Nor does the text change by itself while it is executed, see plainProbes.
	time.Sleep(20 * optimizeDelay)
	at := r.trap.At()
	if code, err := disasm.Byte(at.Addr); err != nil || code != 0xcc {
		t.Errorf("at %v, where the kprobe is, there is %#x instead of an int3, %v", at, code, err)
	}
}

// optimizeDelay is OPTIMIZE_DELAY at 100 Hz (kernel/kprobes.c).
const optimizeDelay = 50 * time.Millisecond

// TestNoPauseInAnException: what the kernel keeps kprobes away from is listed,
// and ends nothing.
func TestNoPauseInAnException(t *testing.T) {
	r := newRunner(t)
	f, err := disasm.Disassemble("do_int3")
	if err != nil {
		t.Fatal(err)
	}
	few := &disasm.Function{Name: f.Name, Points: f.Points[:3]}
	reached, _, err := r.Reached([]*disasm.Function{few}, Nothing, small)
	if err != nil || len(reached) != 0 || len(few.Skipped) != 3 {
		t.Errorf("reached %v, %v; cannot be held up: %v", reached, err, few.Skipped)
	}
}

// TestReached: few points are tried, and those are found that one after the other finds.
func TestReached(t *testing.T) {
	r := newRunner(t)
	f, err := disasm.Disassemble("tun_net_xmit")
	if err != nil {
		t.Fatal(err)
	}
	var want []disasm.Point
	each := coverage{runner: r, nobody: Nothing, at: small}
	for _, p := range f.Points {
		comes, err := each.comesBy(p)
		if err != nil {
			t.Fatal(err)
		}
		if comes {
			want = append(want, p)
		}
	}
	tried := 0
	r.Begins = func(string) { tried++ }
	got, stalls, err := r.Reached([]*disasm.Function{f}, Nothing, small)
	if err != nil || stalls {
		t.Fatalf("stalls %v, %v", stalls, err)
	}
	for _, p := range f.Points {
		if slices.Contains(got, p) != slices.Contains(want, p) && !sometimes(t, r, p) {
			t.Errorf("%v (%s) is reached: %v, and one by one %v", p, p.Text, slices.Contains(got, p), slices.Contains(want, p))
		}
	}
	if len(want) == 0 || len(want) == len(f.Points) || tried > len(f.Points)*4/5 {
		t.Errorf("%d of %d points are reached, and %d schedules were run", len(want), len(f.Points), tried)
	}
}

// sometimes says whether the victim comes by the point at one time and not at another:
// trans_start of a txq is written if it is not what jiffies is.
func sometimes(t *testing.T, r *Runner, p disasm.Point) bool {
	t.Helper()
	var comes, comesNot bool
	for i := range 60 {
		if i%2 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		result, err := r.Run(Schedule{p, Nothing, small}, stage.Suspicion)
		if err != nil {
			t.Fatal(err)
		}
		comes, comesNot = comes || result.Reached, comesNot || !result.Reached
	}
	return comes && comesNot
}
