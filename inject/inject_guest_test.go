package inject

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"golang.org/x/sys/unix"
)

func newRunner(t *testing.T) *Runner {
	t.Helper()
	guesttest.Need(t, "holds up CPUs")
	r, err := NewRunner()
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
func opponent(t *testing.T, name string) *Opponent {
	t.Helper()
	for _, o := range Opponents() {
		if o.Name == name {
			return o
		}
	}
	t.Fatalf("no opponent %s", name)
	return nil
}

// small is a setting that takes little time.
var small = Setting{Ring: 2, Qdisc: netdev.FQCodel}

// start is where a packet comes by for sure.
func start(t *testing.T) Point {
	t.Helper()
	f, err := Disassemble("tun_net_xmit")
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
	} {
		var got string
		var err error
		if strings.Contains(id, "&") {
			var p Pair
			if p, err = ParsePair(id); err == nil {
				got = p.String()
			}
		} else {
			var s Schedule
			if s, err = Parse(id); err == nil {
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
	_, err := Disassemble("ptr_ring_produce")
	if none := (*NoFunctionError)(nil); !errors.As(err, &none) || !strings.Contains(err.Error(), "inlined") {
		t.Errorf("have %v, want a NoFunctionError", err)
	}
}

// TestAPauseThatIsNeverReleased ends by itself, and no schedule is decided.
func TestAPauseThatIsNeverReleased(t *testing.T) {
	r := newRunner(t)
	sleepy := &Opponent{Name: "sleepy", act: func(*Stage) error { time.Sleep(2 * hold); return nil }}
	began := time.Now()
	result, err := r.Run(Schedule{start(t), sleepy, small}, Suspicion)
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
	r.pauser.rounds = 0
	quick := &Opponent{Name: "quick", act: func(*Stage) error { time.Sleep(hold / 2); return nil }}
	s := Schedule{start(t), quick, small}
	result, err := r.Run(s, Suspicion)
	if err != nil {
		t.Fatal(err)
	}
	if !result.Reached || !result.Late || result.Decisive() || len(r.waits) > 0 {
		t.Errorf("have %+v, opponents that wait: %v; want reached, late and none", result, r.waits)
	}
	pair, err := ParsePair("tun_do_read+0x0&tun_net_xmit+0x0/ring=2/fq_codel")
	if err != nil {
		t.Fatal(err)
	}
	if result, err = r.RunPair(pair, Suspicion); err != nil {
		t.Fatal(err)
	} else if result.Reached && result.Decisive() {
		t.Errorf("a pair: have %+v, want late", result)
	}
	r.pauser.rounds = maxRounds
	if result, err = r.Run(s, Suspicion); err != nil {
		t.Fatal(err)
	} else if !result.Decisive() {
		t.Errorf("with all rounds: have %+v, want decisive", result)
	}
}

// TestWhoWaits: an opponent that takes its time is told from one that spins for
// a lock of the one that is held up.
func TestWhoWaits(t *testing.T) {
	r := newRunner(t)
	slow := &Opponent{Name: "slow", Waits: true, act: func(s *Stage) error {
		for began := time.Now(); time.Since(began) < 3*spun; {
		}
		_, err := s.drain(all)
		return err
	}}
	const times = 60
	waited, late := 0, 0
	for range times {
		result, err := r.Run(Schedule{start(t), slow, small}, Suspicion)
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

	f, err := Disassemble("tun_net_xmit")
	if err != nil {
		t.Fatal(err)
	}
	locked := Critical([]*Function{f}, f.Points)[1] // it has the lock of the ring
	if !f.Points[slices.Index(f.Points, locked)-1].takesSpinlock() {
		t.Fatalf("%v is not behind a lock", locked)
	}
	quickest := hold
	for range times / 3 {
		began := time.Now()
		result, err := r.Run(Schedule{locked, opponent(t, "second-fills"), small}, Suspicion)
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
	functions, err := Reach("tun_chr_read_iter")
	if err != nil {
		t.Fatal(err)
	}
	var before Point
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
		result, err := r.Run(Schedule{before, opponent(t, "send-one"), small}, Suspicion)
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
			result, err := r.Run(Schedule{start(t), opponent(t, name), Setting{Ring: 16, Qdisc: netdev.FQCodel}}, 0)
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
	f, err := Disassemble("tun_net_xmit")
	if err != nil {
		t.Fatal(err)
	}
	few := &Function{Name: f.Name, Points: f.Points[:12]}
	want, _, err := r.Reached([]*Function{few}, Nothing, small)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.trap.remove(); err != nil {
		t.Fatal(err)
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_BREAKPOINT, Size: r.trap.attr.Size, Bp_type: breakpointX, Ext2: 8, Sample: 1}
	last := f.Points[len(f.Points)-1]
	attr.Ext1 = last.Addr
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
	got, _, err := r.Reached([]*Function{few}, Nothing, small)
	if err != nil {
		t.Fatal(err)
	}
	if r.trap.probe == nil {
		t.Fatal("no kprobe was used")
	}
	t.Logf("%d of %d points reached by breakpoints, %d by kprobes; %v", len(want), len(few.Points), len(got), few.Skipped)
	if len(want) == 0 || len(got)+len(few.Skipped) < len(want) {
		t.Errorf("%d points are reached by kprobes, and %d cannot be, but breakpoints reach %d", len(got), len(few.Skipped), len(want))
	}
	result, err := r.Run(Schedule{want[0], opponent(t, "drain-all"), small}, Suspicion)
	if err != nil || !result.Decisive() || result.Stalled != "" {
		t.Errorf("have %+v, %v", result, err)
	}

	// Nor does the text change by itself while it is executed, see plainProbes.
	time.Sleep(20 * optimizeDelay)
	memory, err := openText()
	if err != nil {
		t.Fatal(err)
	}
	at := r.trap.at.Addr
	if code, err := memory.read(at, at+1); err != nil || code[0] != 0xcc {
		t.Errorf("at %v, where the kprobe is, there is %#x instead of an int3, %v", r.trap.at, code, err)
	}
}

// optimizeDelay is OPTIMIZE_DELAY at 100 Hz (kernel/kprobes.c).
const optimizeDelay = 50 * time.Millisecond

// TestNoPauseInAnException: what the kernel keeps kprobes away from is listed,
// and ends nothing.
func TestNoPauseInAnException(t *testing.T) {
	r := newRunner(t)
	f, err := Disassemble("do_int3")
	if err != nil {
		t.Fatal(err)
	}
	few := &Function{Name: f.Name, Points: f.Points[:3]}
	reached, _, err := r.Reached([]*Function{few}, Nothing, small)
	if err != nil || len(reached) != 0 || len(few.Skipped) != 3 {
		t.Errorf("reached %v, %v; cannot be held up: %v", reached, err, few.Skipped)
	}
}

// TestAnOfflineCPU is told from a point that is not reached.
func TestAnOfflineCPU(t *testing.T) {
	guesttest.Need(t, "holds up CPUs")
	const cpu = 3
	online := func(state string) {
		if err := os.WriteFile("/sys/devices/system/cpu/cpu3/online", []byte(state), 0); err != nil {
			t.Skip("this kernel lacks CONFIG_HOTPLUG_CPU, or the VM a CPU: ", err)
		}
	}
	online("0")
	defer online("1")
	p, err := NewPauser()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	trap, err := p.Trap(cpu)
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	if err := trap.Set(start(t)); err == nil || !strings.Contains(err.Error(), "offline") {
		t.Errorf("have %v, want that the CPU is offline", err)
	}
}

// TestQdiscsOfADeviceWithoutRing: what a qdisc holds when the ring has slots again
// does not depend on that there were none when it was made.
func TestQdiscsOfADeviceWithoutRing(t *testing.T) {
	guesttest.Need(t, "holds up CPUs")
	fault := func(name string) *Fault {
		all := Faults()
		return all[slices.IndexFunc(all, func(f *Fault) bool { return f.Name == name })]
	}
	for n, qdisc := range faultQdiscs {
		q, err := NewSequence(false, false)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		if err := errors.Join(q.Inject(fault("set tx_queue_len to"), 0), q.Inject(fault("replace the qdisc"), n)); err != nil {
			t.Fatal(err)
		}
		if result, err := q.Settle(Patience); err != nil {
			t.Error(err)
		} else if promise, why := result.Broken(); promise != "" {
			t.Errorf("%v: %s\n%s", qdisc, why, q.Script())
		}
	}
}

// TestAllocationsFail: allocations do fail, and the device is in order after it.
func TestAllocationsFail(t *testing.T) {
	guesttest.Need(t, "holds up CPUs")
	if missing := (*kernelfeature.MissingError)(nil); errors.As(CanFailAllocations(), &missing) {
		t.Skip("this kernel lacks ", missing.Option)
	}
	for _, f := range Faults() {
		if !f.Allocation {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			q, err := NewSequence(false, false)
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			failed, refused := 0, 0
			for _, n := range f.Arguments {
				if strings.HasPrefix(f.Name, "attach") {
					q.attached = false
					if err := q.stage.dev.Detach(q.stage.queue); err != nil {
						t.Fatal(err)
					}
				}
				if err := q.Inject(f, n); err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(q.Script(), "fewer") {
					failed++
				}
				if strings.Contains(q.Script(), "refused") {
					refused++
				}
				result, err := q.Settle(Patience)
				if err != nil {
					t.Fatal(err)
				}
				if result.Stalled != "" || result.Unbalanced != nil {
					t.Fatalf("%s\nstalled: %s; %v", q.Script(), result.Stalled, result.Unbalanced)
				}
				if err := q.Restart(); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d allocations failed, and for %d of them it was refused", failed, refused)
			if failed == 0 {
				t.Error("no allocation failed")
			}
		})
	}
}
