package selftest

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// TestFindings: what review found, and what stress does not find, comes out
// unaided, and replays by the command that is printed with it.
func TestFindings(t *testing.T) {
	const stock = "none, and no patches/designs/lossless either"
	replay := regexp.MustCompile(`(?m)\breplay: (.*)$`)
	for _, tt := range []struct {
		name     string
		bug      string // on top of patches/designs/lossless
		run      string
		contract contract.Contract
		says     []string // none: nothing is to be found
	}{
		{
			"a lost wakeup at the default tx_queue_len", "no-recheck", "Schedules/tun_net_xmit/drain-all/ring=500/fq_codel", contract.Lossless,
			[]string{"lock orb", "10 of 10 times", "tun_ring_produce (drivers/net/tun.c:", "netif_tx_stop_queue"},
		},
		{
			"a queue that stays stopped when it is attached again", "", "ControlSchedules/tun_net_xmit/reattach/ring=2/fq_codel", contract.Lossless,
			[]string{"TUNSETQUEUE", "a fresh packet stayed in the qdisc"},
		},
		{
			"the same by random faults, in three steps", "", "Faults", contract.Lossless,
			[]string{"2. detach the queue", "3. attach the queue"},
		},
		{
			"a lost wakeup, with both sides held up", "no-recheck", "PairSchedules/producer-first", contract.Lossless,
			[]string{"no-stall broken", "held up in turn"},
		},
		{
			"a queue without a qdisc that is stopped", "stops-noqueue", "Schedules/tun_net_xmit/second-fills/ring=2/noqueue", contract.Lossless,
			[]string{"noqueue-drops broken", "a queue without a qdisc was stopped"},
		},
		{
			"a consumer that never wakes", "never-wakes", "Schedules/tun_chr_read_iter/send-three/ring=1/fq_codel", contract.Lossless,
			[]string{"no-stall broken", "held up   at any of"},
		},
		{
			"a vhost-net that never wakes", "vhost-never-wakes", "Schedules/handle_rx/send-three/ring=2/fq_codel/left=2", contract.Lossless,
			[]string{"no-stall broken", "held up   at any of", "/left=2/vhost\n"},
		},
		{
			"a tail drop between two producers", stock, "Schedules/tun_net_xmit/second-fills/ring=2/fq_codel", contract.Lossless,
			[]string{"no-tail-drop broken", "tail-dropped with a qdisc attached"},
		},
		{
			"a packet that is trimmed twice", "", "RequeueSchedules", contract.Lossless,
			[]string{"requeue-intact broken", "1 of 70 bytes"},
		},
		{
			"nothing in the ring protocol", "", "Schedules/tun_net_xmit/drain-all/ring=500/fq_codel", contract.Lossless, nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			series := []string{"patches/designs/lossless"}
			switch tt.bug {
			case "":
			case stock:
				series = nil
			default:
				series = append(series, "patches/bugs/"+tt.bug+".patch")
			}
			k := kernelOf(t, kernel.Spec{Series: series})
			env := on(k, "CONTRACT="+string(tt.contract), "FAULTS=5m", "SEED=101")
			// Pairs with vhost-net take minutes, and make proof has them.
			h, code := run(t, env, "-run="+tt.run, "-skip=^TestPairSchedules$/./^ring/^vhost$")
			if broken := tt.says != nil; broken != (code != 0) {
				t.Fatalf("exit status %d, want a finding: %v\n%s", code, broken, h.out)
			}
			if tt.says == nil {
				for _, p := range h.verdict().Promises() {
					if p.Promise == contract.NoStall && (p.Outcome != contract.Kept || p.Kept != 1) {
						t.Errorf("%s: %s by %d checks, want kept by one", p.Promise, p.Outcome, p.Kept)
					}
				}
				return
			}
			h.says(tt.says...)
			h.forms()
			command := replay.FindStringSubmatch(h.out.String())
			if command == nil {
				t.Fatalf("no command replays it:\n%s", h.out)
			}
			// As it stands, in a shell that knows nothing.
			again := exec.Command("env", "-i", "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"), "sh", "-c", command[1])
			again.Dir = ".."
			out, err := again.CombinedOutput()
			if artifacts := regexp.MustCompile(`(?m)^artifacts: (.*)$`).FindSubmatch(out); artifacts != nil {
				t.Cleanup(func() { os.RemoveAll(string(artifacts[1])) })
			}
			if err == nil || !strings.Contains(string(out), "10 of 10 times") || !strings.Contains(string(out), k.Image) {
				t.Errorf("%s does not show it again: %v\n%s", command[1], err, out)
			}
		})
	}
}
