package run

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// TestEveryPromiseIsDecided ends a test after each of its events, in each way
// there is, and holds the report to a verdict on each promise, and to at least one
// reason why a test failed that did.
func TestEveryPromiseIsDecided(t *testing.T) {
	owes := contract.Owes{Contract: contract.Lossless, Promises: []contract.Promise{contract.NoTailDrop, contract.NoStall}}
	verdict := func(p contract.Promise, o contract.Outcome) func(*Check) {
		return func(c *Check) { c.Verdict(contract.Verdict{Test: "TestA/x", Promise: p, Outcome: o}) }
	}
	events := []struct {
		what string
		do   func(*Check)
	}{
		{"owes", func(c *Check) { c.owes = owes }},
		{"says", func(c *Check) { c.Said("rig_test.go:70: find the queue of flow 4: it did not arrive within 5s\n") }},
		{"keeps one", verdict(contract.NoTailDrop, contract.Kept)},
		{"says more", func(c *Check) { c.Said("        more of it\n") }},
		{"keeps the other", verdict(contract.NoStall, contract.Kept)},
	}
	for _, ended := range []string{"pass", "fail", "skip", "the guest ended early: kernel panic"} {
		for n := range len(events) + 1 {
			name := fmt.Sprintf("%s after %d events", ended, n)
			r := &Run{}
			c := r.Check("TestA/x")
			for _, e := range events[:n] {
				e.do(c)
			}
			c.Ended(ended)
			for _, p := range owes.Promises {
				if n > 0 && !slices.ContainsFunc(r.result.Verdicts, func(v contract.Verdict) bool { return v.Promise == p }) {
					t.Errorf("%s: no verdict on %s", name, p)
				}
			}
			open := slices.ContainsFunc(r.result.Verdicts, func(v contract.Verdict) bool { return v.Outcome != contract.Kept })
			all := n == len(events)
			if n > 0 && open == all {
				t.Errorf("%s: open %v, want %v: %+v", name, open, !all, r.result.Verdicts)
			}
			failed := ended != "pass" && ended != "skip"
			if failed && !open && !r.result.Has(report.Harness) {
				t.Errorf("%s: nothing says why it failed", name)
			}
			if (open || !failed) && len(r.result.Errors) > 0 {
				t.Errorf("%s: %v", name, r.result.Errors)
			}
			if open && n > 1 && ended == "fail" && !strings.Contains(r.result.Verdicts[len(r.result.Verdicts)-1].Why, "it did not arrive within 5s") {
				t.Errorf("%s: the verdict does not give the test's reason: %+v", name, r.result.Verdicts)
			}
		}
	}
}

// TestAFailureIsExplainedOnce: what a broken promise, a report of the kernel or a
// subtest explains is no fault of ours.
func TestAFailureIsExplainedOnce(t *testing.T) {
	for name, explain := range map[string]func(*Check){
		"a broken promise": func(c *Check) { c.Verdict(contract.Verdict{Promise: contract.NoStall, Outcome: contract.Broken}) },
		"a report":         func(c *Check) { c.Fault(report.Kernel, "WARNING") },
		"a subtest":        (*Check).Told,
	} {
		r := &Run{}
		c := r.Check("TestA")
		explain(c)
		c.Ended("fail")
		if r.result.Has(report.Harness) {
			t.Errorf("%s: %v", name, r.result.Errors)
		}
	}
}

// TestOverdue: what spins or hangs in the kernel breaks no-stall, with the stacks;
// what hangs and nobody knows why does not, and is ours.
func TestOverdue(t *testing.T) {
	for _, tt := range []struct {
		name string
		seen []string
		want contract.Outcome
		ours bool
	}{
		{"spins", []string{"a txq spins"}, contract.Broken, false},
		{"unknown", nil, contract.Undecided, true},
	} {
		r := &Run{}
		c := r.Check("TestSchedules/x")
		c.owes = contract.Owes{Contract: contract.Lossless, Promises: []contract.Promise{contract.NoTailDrop, contract.NoStall}}
		c.overdue = &contract.Overdue{What: "schedule tun_net_xmit+0x1/zero/ring=2/fq_codel", Again: "go test again", Seen: tt.seen}
		if !c.Overdue("stacks") {
			t.Errorf("%s: not overdue", tt.name)
		}
		c.Ended("the guest ended early: overdue")
		v := r.result.Verdicts
		if len(v) != 2 || v[0].Promise != contract.NoStall || v[0].Outcome != tt.want || v[0].Evidence != "stacks" || v[1].Outcome != contract.Undecided {
			t.Errorf("%s: %+v", tt.name, v)
		}
		if !strings.Contains(v[0].Why, "tun_net_xmit+0x1/zero") || !strings.Contains(v[0].Why, "go test again") {
			t.Errorf("%s: %s", tt.name, v[0].Why)
		}
		if r.result.Has(report.Harness) != tt.ours {
			t.Errorf("%s: %v", tt.name, r.result.Errors)
		}
	}
}

// TestWhoseDeath: a guest's end is the kernel's fault, the set-up's or ours, and what
// did not run because of it is undecided, once.
func TestWhoseDeath(t *testing.T) {
	panicked := &contract.Exit{Code: 2}
	for _, tt := range []struct {
		name   string
		result vm.Result
		late   bool
		want   report.Kind // "" is none
	}{
		{"ran to its end", vm.Result{Ending: vm.Exited, Exit: &contract.Exit{Code: 1}}, false, ""},
		{"the test program panicked", vm.Result{Ending: vm.Exited, Exit: panicked}, false, report.Harness},
		{"the test program was killed", vm.Result{Ending: vm.Exited, Exit: &contract.Exit{Signal: "SIGSEGV"}}, false, report.Harness},
		{"go test's -timeout", vm.Result{Ending: vm.Exited, Exit: panicked}, true, report.SetUp},
		{"the VM's deadline", vm.Result{Ending: vm.PastDeadline}, false, report.SetUp},
		{"^C", vm.Result{Ending: vm.Interrupted}, false, report.SetUp},
		{"QEMU was killed", vm.Result{Ending: vm.QEMUDied}, false, report.SetUp},
		{"a wrong clock", vm.Result{Ending: vm.WrongClock}, false, report.SetUp},
		{"a stale breakpoint", vm.Result{Ending: vm.Panicked, Stale: true}, false, report.SetUp},
		{"a panic", vm.Result{Ending: vm.Panicked}, false, report.Kernel},
		{"a hang", vm.Result{Ending: vm.Hung}, false, report.Kernel},
		{"a silent test program", vm.Result{Ending: vm.Overdue}, false, report.Kernel},
		{"no boot", vm.Result{Ending: vm.NotBooted}, false, report.Kernel},
		{"a reset", vm.Result{Ending: vm.Reset}, false, report.Kernel},
	} {
		r := &Run{ctx: t.Context()}
		g := newGuest()
		g.ended, g.result, g.late = true, &tt.result, tt.late
		r.gone(g)
		r.gone(g) // is told once
		if tt.want == "" {
			if len(r.result.Errors)+len(r.result.Verdicts) > 0 {
				t.Errorf("%s: %v, %v", tt.name, r.result.Errors, r.result.Verdicts)
			}
			continue
		}
		if len(r.result.Errors) != 1 || r.result.Errors[0].Kind != tt.want {
			t.Errorf("%s: %v, want one fault of %s", tt.name, r.result.Errors, tt.want)
		}
		for _, p := range r.result.Promises() {
			if p.Outcome != contract.Undecided || p.Undecided != 1 {
				t.Errorf("%s: %s: %s, %d undecided", tt.name, p.Promise, p.Outcome, p.Undecided)
			}
		}
	}
}

// TestLeftOut names what go test's -timeout left no time for, and the command, with
// a longer -timeout than was not enough.
func TestLeftOut(t *testing.T) {
	r := &Run{}
	r.result.Command = "KERNEL=k go test ./vmtests"
	if what := r.leftOut(); what != "" {
		t.Error(what)
	}
	for _, test := range []string{"TestNoStall/x", "TestPairSchedules/a", "TestSchedules/b"} {
		for _, p := range []contract.Promise{contract.NoStall, contract.NoTailDrop} {
			v := contract.Verdict{Test: test, Promise: p, Outcome: contract.NotRun, Why: contract.NoTime}
			if test == "TestNoStall/x" {
				v.Why = "this kernel lacks CONFIG_X"
			}
			r.result.Verdicts = append(r.result.Verdicts, v)
		}
	}
	for _, tt := range []struct {
		after time.Duration
		want  string
	}{
		{8 * time.Minute, "30m"},
		{25 * time.Minute, "50m"},
	} {
		r.result.Started = time.Now().Add(-tt.after)
		what := r.leftOut()
		for _, says := range []string{"no time for 4 checks of TestPairSchedules, TestSchedules", "KERNEL=k go test ./vmtests -timeout=" + tt.want + " -run '^(TestPairSchedules|TestSchedules)$'"} {
			if !strings.Contains(what, says) {
				t.Errorf("after %v: %q does not say %q", tt.after, what, says)
			}
		}
	}
}

// TestFailed: a run of go test that failed never looks like one that passed.
func TestFailed(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  *Run
		want int // faults of ringproof
	}{
		{"kept", &Run{result: report.Run{Verdicts: []contract.Verdict{{Promise: contract.NoStall, Outcome: contract.Kept}}}}, 1},
		{"kept, with a test that failed", &Run{result: report.Run{Tests: report.Tests{Failed: 1}, Verdicts: []contract.Verdict{{Promise: contract.NoStall, Outcome: contract.Kept}}}}, 1},
		{"nothing", &Run{}, 1},
		{"broken", &Run{result: report.Run{Verdicts: []contract.Verdict{{Promise: contract.NoStall, Outcome: contract.Broken}}}}, 0},
		{"a fault", &Run{result: report.Run{Errors: []report.Fault{{Kind: report.SetUp, What: "the disk is full"}}}}, 0},
	} {
		tt.run.Failed()
		faults := 0
		for _, f := range tt.run.result.Errors {
			if f.Kind == report.Harness {
				faults++
			}
		}
		if faults != tt.want {
			t.Errorf("%s: %v", tt.name, tt.run.result.Errors)
		}
	}
}

// TestLastStepIsNamed: if the guest dies, the verdict names the schedule that began last.
func TestLastStepIsNamed(t *testing.T) {
	r := &Run{}
	c := r.Check("TestA/x")
	for _, e := range []struct{ key, value string }{
		{contract.AttrOwes, `{"Contract":"lossless","Promises":["no-stall"]}`},
		{contract.AttrAt, `{"Doing":"schedule a","Again":"go test -run a"}`},
		{contract.AttrAt, `{"Doing":"schedule b","Again":"go test -run b"}`},
		{contract.AttrAt, `{"Doing":"close the books"}`},
	} {
		if _, err := c.Attribute(e.key, e.value); err != nil {
			t.Fatal(err)
		}
	}
	c.Ended("the guest ended early: kernel panic")
	if len(r.result.Verdicts) != 1 || !strings.Contains(r.result.Verdicts[0].Why, "kernel panic; the last that began was schedule b; again: go test -run b") {
		t.Errorf("%+v", r.result.Verdicts)
	}
}
