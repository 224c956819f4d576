package traffic

import (
	"slices"
	"testing"
	"time"
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

// As pktgen_sample02_multiqueue.sh prints it of two threads.
const sampleText = `Device: tap0@0
Result: OK: 812345(c812300+d45) usec, 100000 (60byte,0frags)
  123100pps 59Mb/sec (59088000bps) errors: 17
Device: tap0@1
Result: OK: 900000(c900000+d0) usec, 100000 (60byte,-1frags)
  111111pps 53Mb/sec (53333280bps) errors: 0
`

func TestPktgenResults(t *testing.T) {
	got, err := ParsePktgenResults(sampleText)
	want := []PktgenResult{{100000, 17, 60, 812345 * time.Microsecond}, {100000, 0, 60, 900 * time.Millisecond}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if got, err = ParsePktgenResults(pktgenText + "-1frags)\n  73170pps 45Mb/sec (45658080bps) errors: 3\n"); err != nil || len(got) != 1 || got[0].Sent != 9 || got[0].Errors != 3 {
		t.Errorf("of a device: %+v, %v; want 9 sent, and 3 errors", got, err)
	}
	for _, bad := range []string{
		"", "Device: tap0@0\n", "Result: OK: dst_max=198.18.0.42\n", "Result: Starting\n",
		sampleText + "Result: No such parameter\n",
		"Result: No: 1\nDevice: OK: 1(c1+d0) usec, 1 (60byte,0frags)\n  1pps 0Mb/sec (480bps) errors: 0\n",
		"Result: OK: 1(c1+d0) usec, 99999999999999999999 (60byte,0frags)\n  1pps 0Mb/sec (480bps) errors: 0\n",
	} {
		if got, err := ParsePktgenResults(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, got)
		}
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
