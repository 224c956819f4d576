package selftest

import (
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// TestVerdicts is what makes a verdict worth anything: each promise is seen to
// be kept by a kernel that keeps it, and broken by one that was made to break
// it.
func TestVerdicts(t *testing.T) {
	const (
		kept   = contract.Kept
		broken = contract.Broken
	)
	for _, tt := range []struct {
		name     string
		series   []string
		run      string // as -run; a planted bug is not tried on everything
		contract contract.Contract
		want     map[contract.Promise]contract.Outcome
	}{
		{"stock keeps stock", nil, ".", contract.Stock,
			map[contract.Promise]contract.Outcome{contract.NoTailDrop: kept, contract.NoqueueDrops: kept, contract.NoStall: kept}},
		{"stock breaks lossless", nil, ".", contract.Lossless,
			map[contract.Promise]contract.Outcome{contract.NoTailDrop: broken, contract.NoqueueDrops: kept, contract.NoStall: kept}},
		{"opt-in-2 keeps opt-in", []string{"patches/designs/opt-in-2"}, ".", contract.Auto,
			map[contract.Promise]contract.Outcome{contract.NoTailDrop: kept, contract.NoqueueDrops: kept, contract.NoStall: kept}},
		{"lossless stalls when it is attached again", []string{"patches/designs/lossless"}, ".", contract.Auto,
			map[contract.Promise]contract.Outcome{contract.NoTailDrop: kept, contract.NoqueueDrops: kept, contract.NoStall: broken}},
		{"lossless breaks stock", []string{"patches/designs/lossless"}, ".", contract.Stock,
			map[contract.Promise]contract.Outcome{contract.NoTailDrop: broken, contract.NoqueueDrops: kept, contract.NoStall: broken}},
		{"a vhost-net that never wakes stalls", []string{"patches/designs/lossless", "patches/bugs/vhost-never-wakes.patch"}, "TestNoTailDrop/vhost", contract.Lossless,
			map[contract.Promise]contract.Outcome{contract.NoStall: broken}},
		{"stopping a queue without a qdisc", []string{"patches/designs/lossless", "patches/bugs/stops-noqueue.patch"}, "TestNoqueueDrops/sender|TestNoTailDrop/sender", contract.Lossless,
			map[contract.Promise]contract.Outcome{contract.NoTailDrop: kept, contract.NoqueueDrops: broken}},
		{"an altered packet", []string{"patches/designs/lossless", "patches/bugs/alters.patch"}, "TestNoTailDrop/sender", contract.Lossless,
			map[contract.Promise]contract.Outcome{contract.NoTailDrop: broken, contract.NoStall: kept}},
		{"an skb that is lost without a trace", []string{"patches/designs/lossless", "patches/bugs/leaks.patch"}, "TestNoTailDrop/sender", contract.Lossless,
			map[contract.Promise]contract.Outcome{contract.NoTailDrop: contract.Undecided}},
		{"a flag that outlives who has asked for it", []string{"patches/designs/opt-in-2", "patches/bugs/flag-outlives-reopen.patch"}, "TestBackpressureFlag/reopen", contract.Auto,
			map[contract.Promise]contract.Outcome{contract.OptInFlag: broken, contract.NoStall: kept}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := kernelOf(t, kernel.Spec{Series: tt.series})
			h, code := run(t, on(k, "CONTRACT="+string(tt.contract)), "-short", "-run="+tt.run)
			pass := true
			for _, p := range h.verdict().Promises() {
				want, ok := tt.want[p.Promise]
				if !ok {
					continue
				}
				pass = pass && want == kept
				if p.Outcome != want {
					t.Errorf("%s: %s, want %s", p.Promise, p.Outcome, want)
				}
			}
			if (code == 0) != pass {
				t.Errorf("exit status %d", code)
			}
			if t.Failed() || testing.Verbose() {
				t.Logf("%s", h.verdict().Text())
			}
			h.gone()
		})
	}
}
