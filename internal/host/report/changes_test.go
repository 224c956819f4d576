package report

import (
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
)

// TestChanges: what a revision broke is told apart from what it mended, and from what
// was not looked at again.
func TestChanges(t *testing.T) {
	found := func(id string, from, to uint64) Finding {
		f := schedule(contract.NoTailDrop, "consumer", id, from, to)
		f.Test = "TestSchedules/x"
		return f
	}
	run := func(label string, x contract.Outcome, findings ...Finding) *Run {
		r := &Run{Label: label, Findings: findings}
		if x != "" {
			r.Verdicts = []contract.Verdict{{Test: "TestSchedules/x", Promise: contract.NoTailDrop, Outcome: x}}
		}
		return r
	}
	v1 := run("v1", contract.Broken, found("consume+0x2f/send-three/ring=2/mq/left=1", 0x27, 0x3a))
	moved := run("v1 built anew", contract.Broken, found("consume+0x8f/send-three/ring=2/mq/left=1", 0x87, 0x9a))
	other := run("v2", contract.Broken, found("wake+0x8f/send-three/ring=2/mq/left=1", 0x87, 0x9a))
	kept, open, none := run("v3", contract.Kept), run("v4", contract.Undecided), run("v5", "")
	dead := run("v6", "")
	dead.Errors = []Fault{{Kind: Kernel, What: "it cannot be built"}}
	for _, tt := range []struct {
		a, b *Run
		says string
	}{
		{v1, v1, "  nothing\n"},
		{v1, moved, "  nothing\n"},
		{v1, other, "  appeared: no-tail-drop in wake+0x87 .. +0x9a (seen in 1 setting)\n  went: no-tail-drop in consume+0x27 .. +0x3a (seen in 1 setting)\n"},
		{other, kept, "  no-tail-drop: kept, was BROKEN\n  went: no-tail-drop in wake+0x87 .. +0x9a (seen in 1 setting)\n  1 check: no-tail-drop, kept, was broken, first TestSchedules/x\n"},
		{v1, open, "  no-tail-drop: UNDECIDED, was BROKEN\n  not tried again: no-tail-drop in consume+0x27 .. +0x3a (seen in 1 setting)\n  1 check: no-tail-drop, undecided, was broken, first TestSchedules/x\n"},
		{v1, none, "  no-tail-drop: not tried, was BROKEN\n  not tried again: no-tail-drop in consume+0x27 .. +0x3a (seen in 1 setting)\n"},
		{kept, dead, "  no-tail-drop: not tried, was kept\n  1 fault, was 0\n"},
	} {
		if got := Changes(tt.a, tt.b); got != tt.says {
			t.Errorf("%s, after %s:\n%swant\n%s", tt.b.Label, tt.a.Label, got, tt.says)
		}
	}
	matrix := Revisions(v1, kept, dead)
	for _, says := range []string{
		"REVISION  NO-TAIL-DROP  NOQUEUE-DROPS  NO-STALL   REQUEUE-INTACT  OPT-IN-FLAG  FINDINGS  FAULTS\n",
		"v1        BROKEN        not tried      not tried  not tried       not tried    1         0\n",
		"\nv3, after v1:\n  no-tail-drop: kept, was BROKEN\n",
		"\nv6, after v3:\n",
	} {
		if !strings.Contains(matrix, says) {
			t.Errorf("%s\ndoes not say %q", matrix, says)
		}
	}
	for line := range strings.Lines(matrix) {
		if len(line) > 100 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

// TestCostChanges: what costs more or less is listed, the largest change first, and
// nothing that may be chance.
func TestCostChanges(t *testing.T) {
	run := func(change func(*Measured)) *Run {
		m := measured("stock", "mine")
		change(m)
		return &Run{Label: "x", Cost: "a table", Measured: m}
	}
	scaled := func(m *Measured, variant, workload, unit string, by float64) {
		t.Helper()
		n := 0
		for i := range m.Values {
			if v := &m.Values[i]; v.Variant == variant && strings.HasPrefix(v.Workload, workload) && v.Unit == unit {
				lo, hi := *v.Lo*by, *v.Hi*by
				v.Center, v.Lo, v.Hi = v.Center*by, &lo, &hi
				n++
			}
		}
		if n == 0 {
			t.Fatalf("no %s of %s", unit, variant)
		}
	}
	same := run(func(*Measured) {})
	for name, tt := range map[string]struct {
		a, b *Run
		says string
	}{
		"the same":        {same, same, "  nothing\n"},
		"in the noise":    {same, run(func(m *Measured) { scaled(m, "mine", "", "rx-pps", 0.95) }), "  nothing\n"},
		"another's cost":  {same, run(func(m *Measured) { scaled(m, "stock", "Path", "instr/pkt", 2) }), "  nothing\n"},
		"without a limit": {same, run(func(m *Measured) { scaled(m, "mine", "Latency", "p50-us", 2) }), "  nothing\n"},
		"less, and more": {same, run(func(m *Measured) {
			scaled(m, "mine", "Path/via=tap/qdisc=fq_codel/full", "instr/pkt", 3)
			scaled(m, "mine+flag", "Pktgen/threads=1", "rx-pps", 0.25)
		}), "  cost: 0.25 times the rx-pps in Pktgen/threads=1/txqs=1/tap/start_xmit, with the flag\n" +
			"  cost: 3 times the instr/pkt in Path/tap/fq_codel/full\n"},
		"a slower machine": {same, run(func(m *Measured) {
			for _, v := range m.Variants {
				scaled(m, v.Name, "TCP/", "bit/s", 0.1)
			}
		}), "  nothing\n"},
		"many": {same, run(func(m *Measured) {
			for _, v := range m.Variants[1:] {
				scaled(m, v.Name, "Path/", "instr/pkt", 2)
				scaled(m, v.Name, "Path/", "locked/pkt", 1.5)
			}
		}), "...  cost: 2 more changed, none of them to more than 1.5 or less than 0.6667 times\n"},
		"too few values": {same, run(func(m *Measured) {
			for i := range m.Values {
				if v := &m.Values[i]; v.Variant == "mine" && v.Unit == "rx-pps" {
					v.Center, v.Lo, v.Hi = 1, nil, nil
				}
			}
		}), "  cost: 2 values are not compared, for lack of an interval\n"},
		"another base": {same, run(func(m *Measured) {
			for i := range m.Variants {
				if v := &m.Variants[i]; v.Base != "" {
					v.Base = "mainline"
				}
			}
		}), "...  cost: 13 times are not compared, because the bases have different names\n"},
		"not measured": {same, &Run{}, "  nothing\n"},
		// A device that cannot be opened with the flag is compared with one that is.
		"without the flag": {run(func(m *Measured) { m.Variants = m.Variants[:2] }), run(func(m *Measured) { scaled(m, "mine+flag", "Path/via=tap/qdisc=pfifo_fast", "locked/pkt", 2) }),
			"...  cost: 2.118 times the locked/pkt in Path/tap/pfifo_fast/free, with the flag\n"},
	} {
		got := Changes(tt.a, tt.b)
		if part, rest := strings.CutPrefix(tt.says, "..."); rest && !strings.Contains(got, part) || !rest && got != tt.says {
			t.Errorf("%s:\n%swant\n%s", name, got, tt.says)
		}
	}
	// One workload has a verdict for each unit.
	units := func(instr, locked contract.Outcome) *Run {
		return &Run{Verdicts: []contract.Verdict{
			{Test: "Path/x", Promise: contract.Cost, Outcome: instr, Why: "instr/pkt: 1.01 times the base"},
			{Test: "Path/x", Promise: contract.Cost, Outcome: locked, Why: "locked/pkt: 1.2 times the base"},
		}}
	}
	if got := Changes(units(contract.Broken, contract.Kept), units(contract.Broken, contract.Kept)); got != "  nothing\n" {
		t.Error(got)
	}
	if got, want := Changes(units(contract.Broken, contract.Kept), units(contract.Broken, contract.Broken)), "  1 check: cost, broken, was kept, first Path/x\n"; got != want {
		t.Errorf("%swant\n%s", got, want)
	}
	// What costs something was measured of one of two only.
	with := &Run{Verdicts: []contract.Verdict{{Test: "Path/x", Promise: contract.Cost, Outcome: contract.Kept}}}
	for _, tt := range []struct {
		a, b *Run
		says string
	}{{with, &Run{}, "  cost: not tried, was kept\n"}, {&Run{}, with, "  cost: kept, was not tried\n"}} {
		if got := Changes(tt.a, tt.b); got != tt.says {
			t.Errorf("%swant\n%s", got, tt.says)
		}
	}
}
