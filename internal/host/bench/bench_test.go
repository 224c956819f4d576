package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
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

// TestValuesForTheReport: what was measured goes with the verdicts, with intervals as
// far as there are any, and with what failed.
func TestValuesForTheReport(t *testing.T) {
	r := measured(Time, "TCP/x", "bit/s", times(1000, 0.01, 12), times(900, 0.01, 3))
	r.Variants[1].OptIn = true
	for i := range r.Boots {
		failed := cost.Sample{Workload: "TCP/y", Failed: "iperf3 has not ended"}
		if i == 0 {
			failed = cost.Sample{Workload: "TCP/y", Missing: "no iperf3"}
		}
		r.Boots[i].Samples = append(r.Boots[i].Samples, failed)
	}
	m := r.run(Kernel{Label: "patched", Kernel: &kernel.Result{}}).Measured
	if want := []report.Variant{{Name: "stock"}, {Name: "patched", Base: "stock", Own: true}}; !slices.Equal(m.Variants, want) {
		t.Errorf("%+v, want %+v", m.Variants, want)
	}
	if _, err := json.Marshal(m); err != nil {
		t.Error(err) // there is no infinity in JSON
	}
	if len(m.Values) != 4 {
		t.Fatalf("%+v", m.Values)
	}
	if x := m.Values[0]; x.N != 12 || x.Lo == nil || *x.Lo < 990 || *x.Hi > 1010 || x.Center < *x.Lo || x.Center > *x.Hi || x.Limit != 0 {
		t.Errorf("the base: %+v", x)
	}
	if x := m.Values[2]; x.N != 3 || x.Lo != nil || x.Hi != nil || x.Limit != 0.98 || x.Unit != "bit/s" || x.Ruler != "time" {
		t.Errorf("three values: %+v", x)
	}
	if x := m.Values[3]; x.Unit != "" || x.Lacks != "failed: iperf3 has not ended" {
		t.Errorf("what failed: %+v", x)
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

// TestDirectoryOfSomethingElse: nothing is written where something else is.
func TestDirectoryOfSomethingElse(t *testing.T) {
	dir := t.TempDir()
	theirs := filepath.Join(dir, "bench.txt")
	if err := os.WriteFile(theirs, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := Claim(dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("%v", err)
	}
	ours := filepath.Join(dir, "new", "one")
	for range 2 {
		if err := Claim(ours); err != nil {
			t.Error(err)
		}
	}
}

// TestKernelsComparedBefore leave nothing that could be taken for the outcome.
func TestKernelsComparedBefore(t *testing.T) {
	r := steady()
	r.Config.Dir = filepath.Join(t.TempDir(), "bench")
	if err := Claim(r.Config.Dir); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(); err != nil {
		t.Fatal(err)
	}
	other := steady()
	other.Config.Dir, other.Config.Kernels[1].Label, other.Variants[1].Label = r.Config.Dir, "other", "other"
	for i := range other.Boots[2:] {
		other.Boots[2+i].Variant = "other"
	}
	if err := other.Write(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"patched.bench": false, "patched/verdict.json": false, "other.bench": true, "other/verdict.json": true, "bench.txt": true} {
		if _, err := os.Stat(filepath.Join(r.Config.Dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}

// TestSlowPatchIsSeen, or it is said why not.
func TestSlowPatchIsSeen(t *testing.T) {
	nothing := Planted{Name: "patched", Nothing: true}
	slow := Planted{Name: "patched", Ruler: Time, Workload: "Pktgen/x", Unit: "rx-pps"}
	slower := func() *Result {
		return measured(Time, "Pktgen/x", "rx-pps", times(1000, 0.01, 12), times(500, 0.01, 12))
	}
	for _, tt := range []struct {
		name string
		p    Planted
		r    *Result
		do   func(*Result)
		want Verdict
	}{
		{"seen", slow, slower(), nil, AsItShouldBe},
		{"not seen", slow, steady(), nil, NotSeen},
		{"not seen without KVM", slow, steady(), func(r *Result) { r.Boots[0].Accel = "tcg: asked for" }, NotKnown},
		{"nothing", nothing, steady(), nil, AsItShouldBe},
		{"nothing, but flagged", nothing, slower(), nil, NotSeen},
		{"nothing has run", nothing, steady(), func(r *Result) { r.Boots = nil }, NotKnown},
		{"a boot failed", nothing, steady(), func(r *Result) { r.Boots[3].Failed = "the guest ended early" }, NotKnown},
	} {
		if tt.do != nil {
			tt.do(tt.r)
		}
		if by, v := tt.p.Seen(tt.r); v != tt.want {
			t.Errorf("%s: %q by %q, want %q", tt.name, v, by, tt.want)
		}
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

// TestTextFitsACommitMessage: at most 72 columns of ASCII, however many kernels.
func TestTextFitsACommitMessage(t *testing.T) {
	r := &Result{Config: Config{Rulers: []Ruler{Instructions, Time}}}
	for i := range 6 {
		k := Kernel{Label: fmt.Sprintf("a-series-with-a-long-name-%d", i)}
		r.Config.Kernels = append(r.Config.Kernels, k)
		r.Variants = append(r.Variants, Variant{Kernel: k, OptIn: i == 2})
		books := &contract.Books{Offered: 10, Received: 10}
		r.Boots = append(r.Boots,
			Outcome{Variant: k.Label, Ruler: Time, Accel: "tcg: KVM does not work here: " + strings.Repeat("because ", 30), Samples: []cost.Sample{
				{Workload: "Pktgen/threads=2/txqs=2/via=vhost/start_xmit", Books: books, Values: map[string]float64{"offered-pps": 1.5e6, "tx-pps": 1e6, "lost-pps": 5e5, "rx-pps": 1e6}},
				{Workload: "TCP/via=tap/streams=16/txqlen=1000/ip=4/delay=60ms/qdisc=pfifo_fast", Values: map[string]float64{"bit/s": 9.8e9}},
				{Workload: "Latency/qdisc=fq_codel/txqlen=500", Failed: "the flood was none: " + strings.Repeat("very ", 40) + "slow"},
			}},
			Outcome{Variant: k.Label, Ruler: Instructions, Samples: []cost.Sample{
				{Workload: "Path/via=vhost/qdisc=pfifo_fast/asleep", Values: map[string]float64{"instr/pkt": 8302 + float64(i), "switches/pkt": 2.1}},
			}})
	}
	for i, line := range strings.Split(r.Text(), "\n") {
		if len(line) > width {
			t.Errorf("line %d has %d columns: %s", i+1, len(line), line)
		}
		for _, c := range line {
			if c > '~' {
				t.Errorf("line %d is not ASCII: %s", i+1, line)
			}
		}
	}
}

// TestPacketsAddUp: all lines of a column are of one run.
func TestPacketsAddUp(t *testing.T) {
	r := measured(Time, "Pktgen/x", "rx-pps", []float64{30, 10, 20, 40}, []float64{1, 1})
	for i := range r.Boots {
		for j := range r.Boots[i].Samples {
			v := r.Boots[i].Samples[j].Values
			v["tx-pps"], v["lost-pps"], v["offered-pps"] = v["rx-pps"], 1000/v["rx-pps"], v["rx-pps"]+1000/v["rx-pps"]
		}
	}
	text := strings.Join(strings.Fields(r.Tables()), " ")
	for _, want := range []string{"Offered 70.0", "Transmitted 20.0", "Lost 50.0", "Received 20.0"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

// TestBootIsNotDoneAgain: what is on the disk is taken, unless it is of another boot, or
// failed, or is not whole.
func TestBootIsNotDoneAgain(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, []byte("one"), 0o666); err != nil {
		t.Fatal(err)
	}
	r := &Result{Config: Config{Image: image}}
	j := job{Variant{Kernel: Kernel{Label: "stock", Kernel: &kernel.Result{Image: image}}}, Time, 0}
	key, err := r.key(j, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := recall(dir, key); ok {
		t.Error("nothing was there")
	}
	good := &Outcome{Variant: "stock", Samples: []cost.Sample{{Workload: "x"}}}
	if err := remember(dir, key, good); err != nil {
		t.Fatal(err)
	}
	if o, ok := recall(dir, key); !ok || o.Samples[0].Workload != "x" {
		t.Errorf("%v, %v", o, ok)
	}
	other := j
	other.variant.Backpressure = true
	if k, _ := r.key(other, ""); k == key {
		t.Error("with the flag it is another boot")
	}
	if err := os.WriteFile(image, []byte("two"), 0o666); err != nil {
		t.Fatal(err)
	}
	if k, _ := r.key(j, ""); k == key {
		t.Error("of another kernel it is another boot")
	}
	if err := remember(dir, key, &Outcome{Failed: "the guest ended early"}); err != nil {
		t.Fatal(err)
	}
	if _, ok := recall(dir, key); ok {
		t.Error("one that failed is done again")
	}
	if err := os.WriteFile(filepath.Join(dir, outcomeFile), []byte(`{"Key": "`+key), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, ok := recall(dir, key); ok {
		t.Error("one that is cut off is done again")
	}
}

// TestPlanted: what is in patches/slow can be read, and bad headers are refused.
func TestPlanted(t *testing.T) {
	all, err := ReadPlanted("../../../patches/slow")
	if err != nil {
		t.Fatal(err)
	}
	nothing := 0
	for _, p := range all {
		if p.Nothing {
			nothing++
		}
	}
	if nothing != 1 || len(all) < 6 {
		t.Errorf("%d slow patches, %d of them that cost nothing", len(all), nothing)
	}
	for _, bad := range []string{
		"Subject: x\n\nDesign: opt-in-2\n---\n", "Subject: x\n\nCosts: nothing\n---\n",
		"Subject: x\n\nDesign: opt-in-2\nCosts: time Path/x instr/pkt\n---\n",
	} {
		file := filepath.Join(t.TempDir(), "bad.patch")
		if err := os.WriteFile(file, []byte("From 0 Mon\n"+bad), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := readPlanted(file); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestSamplesAreRead(t *testing.T) {
	var got []cost.Sample
	o := &output{onSample: func(s cost.Sample) { got = append(got, s) }}
	text := "=== RUN   TestPath\n=== ATTR  TestPath ringproof.cost {\"Workload\":\"Path/x\",\"Values\":{\"instr/pkt\":3}}\n    a line\n=== ATTR  TestPath ringproof.cost {\n"
	for i := range text { // however it is cut
		o.Write([]byte(text[i : i+1]))
	}
	if len(got) != 1 || got[0].Values["instr/pkt"] != 3 {
		t.Errorf("%+v", got)
	}
	if o.err == nil || !strings.Contains(o.err.Error(), "cannot be read") {
		t.Errorf("a sample that is cut off: %v", o.err)
	}
	if !strings.Contains(o.text.String(), "a line") {
		t.Errorf("the rest: %q", o.text.String())
	}
}

// TestBootThatStrays: a limit that is hardly exceeded is tried in a second boot, and only
// there.
func TestBootThatStrays(t *testing.T) {
	for _, tt := range []struct {
		name    string
		patched float64
		boots   int
	}{{"hardly", 1022, 1}, {"by far", 1100, 0}, {"not", 1010, 0}} {
		r := measured(Instructions, "Path/x", "instr/pkt", []float64{1000, 1000}, []float64{tt.patched, tt.patched})
		r.Boots = slices.DeleteFunc(r.Boots, func(o Outcome) bool { return o.Variant == "patched" && o.Nth == 1 })
		if jobs := r.doubtful(); len(jobs) != tt.boots {
			t.Errorf("%s above the limit: %v", tt.name, jobs)
		}
	}
	r := measured(Instructions, "Path/x", "instr/pkt", []float64{1000, 1000}, []float64{1022, 1000})
	if jobs := r.doubtful(); len(jobs) != 0 {
		t.Errorf("two boots, and again %v", jobs)
	}
	if row := r.Rows()[0]; row.Outcome != contract.Undecided {
		t.Errorf("of two boots one exceeds the limit: %s", row.Outcome)
	}
}
