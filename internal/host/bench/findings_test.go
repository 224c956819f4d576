package bench

import (
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
)

// verdicts are those of a kernel of a Result, by promise and outcome.
func verdicts(r *Result, label string) map[contract.Promise]map[contract.Outcome]int {
	counts := make(map[contract.Promise]map[contract.Outcome]int)
	for _, run := range r.Runs() {
		for _, v := range run.Verdicts {
			if run.Label != label {
				continue
			}
			if counts[v.Promise] == nil {
				counts[v.Promise] = make(map[contract.Outcome]int)
			}
			counts[v.Promise][v.Outcome]++
		}
	}
	return counts
}

func steady() *Result {
	r := measured(Time, "Pktgen/x", "rx-pps", times(1000, 0.01, 12), times(1000, 0.01, 12))
	for i := range r.Config.Kernels {
		r.Config.Kernels[i].Kernel = &kernel.Result{}
	}
	return r
}

// TestStallIsAFinding and not a slow packet.
func TestStallIsAFinding(t *testing.T) {
	r := steady()
	if v := verdicts(r, "patched"); v[contract.Cost][contract.Kept] != 1 {
		t.Errorf("without one: %v", v)
	}
	r.Boots[3].Samples[0] = cost.Sample{Workload: "Pktgen/x", Failed: cost.Silent + " 3s, while pktgen sends: it has sent 500 packets, and 500 have arrived"}
	if v := verdicts(r, "patched"); v[contract.NoStall][contract.Broken] != 1 || v[contract.Cost][contract.Kept] != 0 {
		t.Errorf("%v", v)
	}
	if text := r.Text(); !strings.Contains(text, "no-stall: broken, patched in Pktgen/x") {
		t.Error(text)
	}
}

// TestBootThatFailed is a fault, and what it did not come to is decided by nobody.
func TestBootThatFailed(t *testing.T) {
	for _, whose := range []report.Kind{report.Kernel, report.SetUp, report.Harness} {
		r := steady()
		for i := range r.Boots[2:] {
			r.Boots[2+i].Samples, r.Boots[2+i].Failed, r.Boots[2+i].Whose = nil, "the guest ended early: kernel panic", whose
		}
		if v := verdicts(r, "patched"); v[contract.Cost][contract.Undecided] != 1 || v[contract.Cost][contract.Kept] != 0 {
			t.Errorf("%v", v)
		}
		if run := r.Runs()[0]; !run.Has(whose) || len(run.Errors) != 2 {
			t.Errorf("the faults are %v, want those of %s", run.Errors, whose)
		}
	}
}

// TestRoundThatFailed of the patched kernel alone is more than a value that lacks.
func TestRoundThatFailed(t *testing.T) {
	r := steady()
	s := &r.Boots[3].Samples[0]
	s.Values, s.Failed = nil, "iperf3 has not ended within 30s"
	if row := r.Rows()[0]; row.Outcome != contract.Undecided || !strings.Contains(row.Why, "iperf3 has not ended") {
		t.Errorf("%s: %s", row.Outcome, row.Why)
	}
}

// TestBooksThatDoNotBalance decide nothing, although other rounds do.
func TestBooksThatDoNotBalance(t *testing.T) {
	r := steady()
	for i := range r.Boots {
		s := &r.Boots[i].Samples[0]
		s.Values, s.Failed, s.Books = nil, "the books do not balance: 1 != 2", &contract.Books{Offered: 2, Received: 1}
	}
	if v := verdicts(r, "patched"); v[contract.Cost][contract.Undecided] != 2 {
		t.Errorf("%v", v)
	}
	if v := verdicts(r, "stock"); v[contract.Cost][contract.Undecided] != 2 {
		t.Errorf("of the base: %v", v)
	}
}
