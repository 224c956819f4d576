package selftest

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/bench"
	"github.com/ringproof/ringproof/internal/host/profile"
)

// TestProfile has packets pass a ring that is full and wake a reader that sleeps, and
// looks who executed what. That all instructions add up to those that the guest's clock
// has counted is a condition for Run to give no error.
func TestProfile(t *testing.T) {
	k := lossless(t)
	plugin, err := profile.Build(t.Context())
	if err != nil {
		t.Skip(err)
	}
	image, _, err := initramfs.Build(t.Context(), initramfs.Options{Package: "./bench", Dir: ".."})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	samples := make(map[string]cost.Sample)
	if _, _, err := (bench.Boot{
		Kernel: k, Ruler: bench.Instructions, Plugin: plugin, Workloads: "^TestPath$/^via=tap$/(fq_codel|pfifo_fast)/^(full|asleep)$", Image: image, Dir: dir, Progress: os.Stderr,
		OnSample: func(s cost.Sample) { samples[s.Workload] = s },
	}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		workload, function string
		where              []string // all that execute it
	}{
		{"Path/via=tap/qdisc=fq_codel/full", "packet_sendmsg", []string{"producer"}},
		{"Path/via=tap/qdisc=fq_codel/full", "tun_net_xmit", []string{"producer", "softirq"}},
		{"Path/via=tap/qdisc=fq_codel/full", "net_tx_action", []string{"softirq"}},
		{"Path/via=tap/qdisc=fq_codel/full", "tun_do_read", []string{"consumer"}},
		{"Path/via=tap/qdisc=pfifo_fast/asleep", "tun_net_xmit", []string{"producer"}},
		{"Path/via=tap/qdisc=pfifo_fast/asleep", "tun_do_read", []string{"consumer"}},
		{"Path/via=tap/qdisc=fq_codel/full", "hrtimer_interrupt", []string{"interrupt"}},
	} {
		s, ok := samples[tt.workload]
		if !ok || s.Window == nil || s.Values["locked/pkt"] == 0 {
			t.Fatalf("%s has no profile: %+v", tt.workload, s)
		}
		p, err := profile.Read(dir, s.Window.Number)
		if err != nil {
			t.Fatal(err)
		}
		var where []string
		for _, line := range p.Lines {
			if line.Function == tt.function {
				where = append(where, line.Where)
			}
		}
		slices.Sort(where)
		if !slices.Equal(where, tt.where) {
			t.Errorf("%s: %s is executed by %s; want %s", tt.workload, tt.function, strings.Join(where, ", "), strings.Join(tt.where, ", "))
		}
	}
}
