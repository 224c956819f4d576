package traffic

import (
	"slices"
	"testing"
)

// As /proc/net/pktgen/tap0@0 reads on Linux 6.12; shortened.
const pktgenText = `Params: count 10  min_pkt_size: 78  max_pkt_size: 78
     frags: 0  delay: 0  clone_skb: 0  ifname: tap0@0
     Flags: NO_TIMESTAMP  
Current:
     pkts-sofar: 9  errors: 3
     started: 18446us  stopped: 18446us idle: 2us
     seq_num: 10  cur_dst_mac_offset: 0  cur_src_mac_offset: 0
     flows: 0
Result: OK: 123(c121+d2) usec, 9 (78byte,`

func TestPktgenState(t *testing.T) {
	s, err := parsePktgenState(pktgenText + "-1frags)\n  73170pps 45Mb/sec (45658080bps) errors: 3\n")
	if err != nil || s.counts() != (Counts{Offered: 12, Refused: 3}) {
		t.Errorf("%+v, %v; want 9 taken and 3 refused", s.counts(), err)
	}
	s, err = parsePktgenState(pktgenText + "0frags)\n  73170pps 45Mb/sec (45658080bps) errors: 3\n")
	if err != nil || s.counts() != (Counts{Offered: 13, Refused: 4}) {
		t.Errorf("stopped with an skb in its hand: %+v, %v; want 9 taken and 4 refused", s.counts(), err)
	}
	if _, err := parsePktgenState("Params: count 10\n"); err == nil {
		t.Error("no counters, and no error")
	}
}

func TestPktgenDevices(t *testing.T) {
	got := pktgenDevices("Running: tap0@1 \nStopped: tap0@2 tap1@1 \nResult: OK: add_device=tap1@1\n")
	if want := []string{"tap0@1", "tap0@2", "tap1@1"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := pktgenDevices("Running: \nStopped: \nResult: NA\n"); got != nil {
		t.Errorf("%v, want none", got)
	}
}
