package bench

import (
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
)

// measured is a Result of two boots of each of two kernels, with one workload.
func measured(ruler Ruler, workload, unit string, base, patched []float64) *Result {
	k := []Kernel{{Label: "stock"}, {Label: "patched"}}
	r := &Result{Config: Config{Kernels: k, Rulers: []Ruler{ruler}}, Variants: []Variant{{Kernel: k[0]}, {Kernel: k[1]}}}
	for i, values := range [][]float64{base, patched} {
		for nth := range 2 {
			o := Outcome{Variant: k[i].Label, Ruler: ruler, Nth: nth}
			for j, v := range values {
				if j%2 == nth {
					o.Samples = append(o.Samples, cost.Sample{Workload: workload, Values: map[string]float64{unit: v}})
				}
			}
			r.Boots = append(r.Boots, o)
		}
	}
	return r
}

func times(x float64, spread float64, n int) (values []float64) {
	for i := range n {
		values = append(values, x*(1+spread*(float64(i)/float64(n-1)-0.5)))
	}
	return values
}

// TestVerdicts: each kind of ratio, and what is made of it.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name           string
		ruler          Ruler
		workload, unit string
		base, patched  []float64
		want           contract.Outcome
		says           string
	}{
		{"the same", Instructions, "Path/x", "instr/pkt", []float64{100, 100}, []float64{100, 100}, contract.Kept, "1 times the base"},
		{"a little more", Instructions, "Path/x", "instr/pkt", []float64{1000, 1000}, []float64{1019, 1019}, contract.Kept, "1.019"},
		{"too much", Instructions, "Path/x", "instr/pkt", []float64{1000, 1000}, []float64{1021, 1021}, contract.Broken, "the limit is 1.02"},
		{"less", Instructions, "Path/x", "instr/pkt", []float64{1000, 1000}, []float64{400, 400}, contract.Kept, ""},
		{"around the limit", Instructions, "Path/x", "instr/pkt", []float64{1000, 1000}, []float64{1010, 1030}, contract.Undecided, "too few, 6 would do"},
		{"some where the base has none", Instructions, "Path/via=tap/qdisc=fq_codel/full", "dry/wake", []float64{0, 0}, []float64{0.5, 1}, contract.Broken, "1, and 0 of the base"},
		{"none where the base has none", Instructions, "Path/via=tap/qdisc=fq_codel/full", "dry/wake", []float64{0, 0}, []float64{0, 0}, contract.Kept, ""},
		{"slower, and sure", Time, "Pktgen/x", "rx-pps", times(1000, 0.02, 12), times(800, 0.02, 12), contract.Broken, "0.8 times the base"},
		{"faster", Time, "Pktgen/x", "rx-pps", times(1000, 0.02, 12), times(1200, 0.02, 12), contract.Kept, ""},
		{"in the noise", Time, "TCP/x", "bit/s", times(1000, 0.5, 12), times(900, 0.5, 12), contract.Undecided, "no number of values decides"},
		{"needs more", Time, "TCP/x", "bit/s", times(1000, 0.4, 12), times(980, 0.4, 12), contract.Undecided, "values of each would decide, instead of 12"},
		{"too few", Time, "TCP/x", "bit/s", times(1000, 0.01, 3), times(1000, 0.01, 3), contract.Undecided, "3 values of each are too few, 6 would do"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows := measured(tt.ruler, tt.workload, tt.unit, tt.base, tt.patched).Rows()
			row := rows[0]
			for _, r := range rows {
				if r.Unit == tt.unit {
					row = r
				}
			}
			if row.Outcome != tt.want || !strings.Contains(row.Why, tt.says) {
				t.Errorf("%s: %s, want %s that says %q", row.Outcome, row.Why, tt.want, tt.says)
			}
		})
	}
}

// TestLostProbes: those that never arrive are the slowest.
func TestLostProbes(t *testing.T) {
	for _, tt := range []struct {
		was, is float64
		n       int
		want    contract.Outcome
	}{
		{0.64, 0, 12, contract.Kept}, {0, 0.3, 12, contract.Broken}, {0.64, 0.65, 12, contract.Kept}, {0, 0, 12, contract.Broken},
		{0.39, 0.46, 2, contract.Undecided}, {0, 0, 2, contract.Undecided},
	} {
		r := measured(Time, "Latency/x", "p99-us", times(1000, 0.01, tt.n), times(1200, 0.01, tt.n))
		for i := range r.Boots {
			for j := range r.Boots[i].Samples {
				lost := tt.was
				if r.Boots[i].Variant == "patched" {
					lost = tt.is
				}
				r.Boots[i].Samples[j].Values["lost"] = lost
				if lost > 0.6 { // so few arrive that there is no percentile
					delete(r.Boots[i].Samples[j].Values, "p99-us")
				}
			}
		}
		for _, row := range r.Rows() {
			if row.Unit == "p99-us" && row.Outcome != tt.want {
				t.Errorf("%v lost of the base, %v: %s, %s", tt.was, tt.is, row.Outcome, row.Why)
			}
		}
	}
}

// TestNullKeepsFromDeciding: a base that differs from itself by more than a ratio is
// beyond its limit.
func TestNullKeepsFromDeciding(t *testing.T) {
	// As the intervals have it, it is beyond its limit.
	r := measured(Time, "Pktgen/x", "rx-pps", times(1000, 0.001, 24), times(900, 0.001, 24))
	if row := r.Rows()[0]; row.Outcome != contract.Broken {
		t.Fatalf("%s: %s", row.Outcome, row.Why)
	}
	// Of the base's second boot most values are lower, and of both together few.
	for i := range r.Boots[1].Samples[:7] {
		r.Boots[1].Samples[i].Values["rx-pps"] = 930
	}
	if row := r.Rows()[0]; row.Outcome != contract.Undecided || !strings.Contains(row.Why, "the base differs from itself") {
		t.Errorf("%s: %s", row.Outcome, row.Why)
	}
	if says := r.nulls(); !strings.Contains(says, "up to 7.5 %") {
		t.Errorf("the null: %s", says)
	}
}

// TestBaseThatFails: what both have is compared, and what failed is said.
func TestBaseThatFails(t *testing.T) {
	r := measured(Time, "TCP/x", "bit/s", times(1000, 0.01, 12), times(1000, 0.01, 12))
	for i := range 6 {
		s := &r.Boots[0].Samples[i]
		s.Values, s.Failed = nil, "iperf3 has not ended within 30s"
	}
	row := r.Rows()[0]
	if row.Outcome != contract.Kept || row.Base.N != 6 || !strings.Contains(row.Why, "the base failed 6 times") {
		t.Errorf("%s of %d: %s", row.Outcome, row.Base.N, row.Why)
	}
	for i := range r.Boots[:2] {
		for j := range r.Boots[i].Samples {
			s := &r.Boots[i].Samples[j]
			s.Values, s.Failed = nil, "iperf3 has not ended within 30s"
		}
	}
	if row := r.Rows()[0]; row.Outcome != contract.Undecided || !strings.Contains(row.Why, "the base failed: iperf3 has not ended") {
		t.Errorf("%s: %s", row.Outcome, row.Why)
	}
}

// TestWhatIsMissing is named, and counted apart.
func TestWhatIsMissing(t *testing.T) {
	r := measured(Time, "TCP/x", "bit/s", []float64{1, 1}, []float64{1, 1})
	for i := range r.Boots {
		for j := range r.Boots[i].Samples {
			r.Boots[i].Samples[j] = cost.Sample{Workload: "TCP/x", Missing: "iperf3 is not in the image: apt install iperf3"}
		}
	}
	if row := r.Rows()[0]; row.Outcome != contract.NotRun || !strings.Contains(row.Why, "apt install iperf3") {
		t.Errorf("%s: %s", row.Outcome, row.Why)
	}
	if text := r.Text(); !strings.Contains(text, "1 not run") {
		t.Error(text)
	}
	r = measured(Instructions, "Pktgen/x", "instr/pkt", []float64{1, 1}, []float64{1, 1})
	for i := range r.Boots {
		if r.Boots[i].Variant == "patched" {
			r.Boots[i].Samples[0] = cost.Sample{Workload: "Pktgen/x", Missing: "this kernel has no pktgen"}
		}
	}
	if text, want := r.Text(), "Not run: Pktgen on patched, by the ruler of instructions: this kernel\nhas no pktgen."; strings.Count(text, want) != 1 {
		t.Errorf("want once %q:\n%s", want, text)
	}
}

// TestTheFlagHasLimitsOfItsOwn: what a device costs that is opened without.
func TestTheFlagHasLimitsOfItsOwn(t *testing.T) {
	r := measured(Instructions, "Path/x", "instr/pkt", []float64{1000, 1000}, []float64{1010, 1010})
	r.Variants[1].OptIn = true
	if row := r.Rows()[0]; row.Outcome != contract.Broken || row.Limit != 1.002 {
		t.Errorf("%s, limit %v", row.Outcome, row.Limit)
	}
	r.Variants[1].Backpressure = true
	for i := range r.Boots {
		if r.Boots[i].Variant == "patched" {
			r.Boots[i].Variant = "patched+flag"
		}
	}
	if row := r.Rows()[0]; row.Outcome != contract.Kept || row.Limit != 1.02 {
		t.Errorf("%s, limit %v", row.Outcome, row.Limit)
	}
}

// TestWhatAFlagCosts: a kernel that has it is compared with itself, and with the flag on
// another with that on.
func TestWhatAFlagCosts(t *testing.T) {
	old, now := Kernel{Label: "old"}, Kernel{Label: "new"}
	r := &Result{Config: Config{Kernels: []Kernel{old, now}}, Variants: []Variant{{old, false, true}, {old, true, true}, {now, false, true}, {now, true, true}}}
	for v, want := range map[int]string{0: "old", 1: "old", 2: "old", 3: "old+flag"} {
		if b := r.baseOf(r.Variants[v]); b.String() != want {
			t.Errorf("%v is compared with %v, want %s", r.Variants[v], b, want)
		}
	}
}
