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
