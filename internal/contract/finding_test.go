package contract

import (
	"strings"
	"testing"
)

func TestOnlyWhatBreaksAgainIsBroken(t *testing.T) {
	f := Finding{Promise: NoTailDrop, Why: "1 of 70 packets tail-dropped", Schedule: "tun_net_xmit+0x1cb/drain-all/ring=2/fq_codel", Tries: 10}
	if outcome, why := f.Outcome(); outcome != Undecided || !strings.Contains(why, "none of 10 replays") || !strings.Contains(why, f.Schedule) {
		t.Errorf("%s: %s", outcome, why)
	}
	f.Failed = 1
	if outcome, why := f.Outcome(); outcome != Broken || why != f.Why {
		t.Errorf("%s: %s", outcome, why)
	}
}
