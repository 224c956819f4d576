package bench

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
)

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
