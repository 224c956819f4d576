package ledger

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
)

// As Linux 6.12 prints it, shortened.
const format612 = `name: kfree_skb
ID: 1304
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;

	field:void * skbaddr;	offset:8;	size:8;	signed:0;
	field:void * location;	offset:16;	size:8;	signed:0;
	field:unsigned short protocol;	offset:32;	size:2;	signed:0;
	field:enum skb_drop_reason reason;	offset:36;	size:4;	signed:0;

print fmt: "skbaddr=%p rx_sk=%p protocol=%u location=%pS reason: %s", REC->skbaddr, REC->rx_sk, REC->protocol, REC->location, __print_symbolic(REC->reason, { 1, "CONSUMED" }, { 2, "NOT_SPECIFIED" }, { 71, "FULL_RING" }, { 100, "MAX" })
`

const format516 = `name: kfree_skb
format:
	field:void * skbaddr;	offset:8;	size:8;	signed:0;
	field:void * location;	offset:16;	size:8;	signed:0;
	field:unsigned short protocol;	offset:24;	size:2;	signed:0;

print fmt: "skbaddr=%p protocol=%u location=%p", REC->skbaddr, REC->protocol, REC->location
`

func TestParseFormat(t *testing.T) {
	f, err := parseFormat(format612)
	if err != nil {
		t.Fatal(err)
	}
	for reason, want := range map[uint32]string{2: "NOT_SPECIFIED", 71: "FULL_RING", 72: "72", 3<<16 | 1: "196609"} {
		if got := f.name(reason); got != want {
			t.Errorf("reason %d: have %s, want %s", reason, got, want)
		}
	}

	f, err = parseFormat(format516)
	if err != nil || f.hasReason || f.name(0) != "NOT_SPECIFIED" {
		t.Errorf("before 5.17 there are no reasons: have %+v, %v", f, err)
	}

	// Numbers that were left as names would make every reason a number.
	named := strings.ReplaceAll(format612, "{ 71,", "{ SKB_DROP_REASON_FULL_RING,")
	if f, err := parseFormat(named); err == nil {
		t.Errorf("a reason without number: have %+v, want an error", f)
	}
	none, _, _ := strings.Cut(format612, "print fmt:")
	if f, err := parseFormat(none); err == nil {
		t.Errorf("no print fmt: have %+v, want an error", f)
	}
}

func TestThroughDev(t *testing.T) {
	translated := asm.Instructions{
		asm.LoadMem(asm.R0, asm.R1, 16, asm.DWord),
		asm.LoadMem(asm.R0, asm.R0, 224, asm.Word),
		asm.Return(),
	}
	if dev, ifindex, ok := throughDev(translated); dev != 16 || ifindex != 224 || !ok {
		t.Errorf("have %d, %d, %v", dev, ifindex, ok)
	}
	if dev, ifindex, ok := throughDev(translated[1:]); ok {
		t.Errorf("no load of a pointer: have %d, %d", dev, ifindex)
	}
}

func TestPathOfFreed(t *testing.T) {
	for _, test := range []struct {
		reason, function string
		want             driver.Path
	}{
		{"FULL_RING", "tun_net_xmit", driver.DriverCounts},
		{"FULL_RING", "tun_something_new [tun]", driver.DriverCounts},
		{"DEV_READY", "tun_net_xmit [tun]", driver.DriverCounts},
		{"NOT_SPECIFIED", "__dev_queue_xmit", driver.DriverCounts},
		{"QDISC_DROP", "__dev_queue_xmit", driver.QdiscCounts},
		{"FQ_FLOW_LIMIT", "__dev_queue_xmit", driver.QdiscCounts},
		{"NOT_SPECIFIED", "drop_func [sch_fq_codel]", driver.QdiscCounts},
		{"NOT_SPECIFIED", "__fq_codel_dequeue", driver.QdiscCounts},
		{"NOT_SPECIFIED", "tun_queue_purge", driver.Uncounted},
		{"NOT_SPECIFIED", "__rtnl_unlock", driver.Uncounted},
		{"NOT_SPECIFIED", "pktgen_stop_device [pktgen]", driver.Uncounted},
		{"NOT_SPECIFIED", "something_new", driver.Unknown},
		{"SOMETHING_NEW", "__dev_queue_xmit", driver.Unknown},
		{"QDISC_SOMETHING_NEW", "__dev_queue_xmit", driver.Unknown},
		{"TC_EGRESS", "__dev_queue_xmit", driver.Unknown},
	} {
		if got := (Freed{Reason: test.reason, Function: test.function}).path(tun.Driver); got != test.want {
			t.Errorf("%s@%s: have %v, want %v", test.reason, test.function, got, test.want)
		}
	}
}

func TestDisagreementsNameBothFigures(t *testing.T) {
	tail := Freed{Reason: "FULL_RING", Function: "tun_net_xmit", Count: 10}
	limit := Freed{Reason: "QDISC_DROP", Function: "__dev_queue_xmit", Count: 5}
	purge := Freed{Reason: "NOT_SPECIFIED", Function: "tun_queue_purge", Count: 7}
	strange := Freed{Reason: "NOT_SPECIFIED", Function: "something_new", Count: 3}
	burst := Freed{Reason: "QDISC_BURST_DROP", Function: "__dev_queue_xmit", Count: 100}
	many := make([]Freed, maxUnknown+1)
	for i := range many {
		many[i] = Freed{Reason: "NOT_SPECIFIED", Function: "something_new", Site: uint64(i), Count: 1}
	}
	type counters struct{ device, qdisc uint64 }
	for _, test := range []struct {
		name                   string
		freed                  []Freed
		counters               counters
		replaced, reconfigured bool
		want                   []string // in the error; nil if there is none
	}{
		{"nothing", nil, counters{}, false, false, nil},
		{"all counted", []Freed{tail, limit, purge}, counters{10, 5}, false, false, nil},
		{"noop counts for the device what an active qdisc counts itself", []Freed{tail, limit}, counters{13, 2}, false, false, nil},
		{"an unknown function may count", []Freed{tail, strange}, counters{13, 0}, false, false, nil},
		{"or not", []Freed{tail, strange}, counters{10, 0}, false, false, nil},
		{"a tail drop that is not counted", []Freed{tail}, counters{9, 0}, false, false, []string{"10 skbs", "9 only"}},
		{"a drop that nobody freed", []Freed{tail}, counters{11, 0}, false, false, []string{"rose by 11", "only 10"}},
		{"a qdisc's drop that is not counted", []Freed{tail, limit}, counters{10, 4}, false, false, []string{"15 skbs", "tx_dropped 10", "drops 4", "are 14"}},
		{"that is lawful while it is deactivated", []Freed{tail, limit}, counters{10, 4}, false, true, nil},
		{"a qdisc's drop that nobody freed", []Freed{tail, limit}, counters{10, 6}, false, false, []string{"6 drops", "only 5"}},
		{"a qdisc that was replaced cannot be asked", []Freed{tail, limit}, counters{10, 900}, true, false, nil},
		{"one drop counted twice", []Freed{limit}, counters{5, 1}, false, false, []string{"tx_dropped 5", "drops 1", "are 6", "only 5"}},
		{"an unknown reason may be counted by nothing", []Freed{tail, limit, burst}, counters{10, 5}, false, false, nil},
		{"or by the qdisc", []Freed{tail, limit, burst}, counters{10, 105}, false, false, nil},
		{"two unknown reasons, each in its way", []Freed{tail, burst, strange}, counters{13, 100}, false, false, nil},
		{"an unknown reason does not make up for tail drops that are not counted", []Freed{tail, burst}, counters{109, 0}, false, false, []string{"rose by 109", "only 10", "QDISC_BURST_DROP@__dev_queue_xmit 100"}},
		{"not even if it was counted nowhere", []Freed{tail, burst}, counters{9, 0}, false, false, []string{"10 skbs", "9 only", "unknown paths"}},
		{"one of two call sites counts", many[:2], counters{1, 0}, false, false, nil},
		{"any of more than can be tried", many, counters{4, 3}, false, false, nil},
		{"but not more than there are", many, counters{4, 6}, false, false, []string{"only 9 skbs"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			counters := readout{test.counters.device, test.counters.qdisc, test.replaced, test.reconfigured}
			_, errs := counters.reconcile(test.freed, tun.Driver, true)
			err := errors.Join(errs...)
			if test.want == nil {
				if err != nil {
					t.Errorf("false alarm: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestUnknownPathsAreNamedWithTheirCounters(t *testing.T) {
	tail := Freed{Reason: "FULL_RING", Function: "tun_net_xmit", Count: 10}
	burst := Freed{Reason: "QDISC_BURST_DROP", Function: "__dev_queue_xmit", Count: 100}
	other := Freed{Reason: "SOMETHING", Function: "something_new", Count: 100}
	const burstPath, otherPath = "QDISC_BURST_DROP@__dev_queue_xmit", "SOMETHING@something_new"
	nothing, device, qdisc := contract.NoCounter, contract.TxDropped, contract.QdiscDrops
	for _, test := range []struct {
		name  string
		freed []Freed
		r     readout
		want  contract.Paths
	}{
		{"nothing is unknown", []Freed{tail}, readout{device: 10}, nil},
		{"nothing counts it", []Freed{tail, burst}, readout{device: 10}, contract.Paths{burstPath: {nothing}}},
		{"tx_dropped does", []Freed{tail, burst}, readout{device: 110}, contract.Paths{burstPath: {device}}},
		{"the qdisc does", []Freed{tail, burst}, readout{device: 10, qdisc: 100}, contract.Paths{burstPath: {qdisc}}},
		{"a replaced qdisc cannot be asked", []Freed{tail, burst}, readout{device: 10, qdisc: 3, replaced: true}, contract.Paths{burstPath: {nothing, qdisc}}},
		{"one of two as large", []Freed{tail, burst, other}, readout{device: 110}, contract.Paths{burstPath: {nothing, device}, otherPath: {nothing, device}}},
		{"no counter explains it", []Freed{tail, burst}, readout{device: 50}, contract.Paths{burstPath: nil}},
		{"while a qdisc is deactivated", []Freed{tail, burst}, readout{device: 50, reconfigured: true}, contract.Paths{burstPath: {nothing, device, qdisc}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			paths, errs := test.r.reconcile(test.freed, tun.Driver, true)
			same := func(a, b []contract.Counter) bool {
				a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
				return slices.Equal(a, b)
			}
			if !maps.EqualFunc(paths, test.want, same) {
				t.Errorf("have %v (%v), want %v", paths, errs, test.want)
			}
		})
	}
}

func TestQuietFrees(t *testing.T) {
	read := Freed{Function: "tun_do_read [tun]", Count: 20}
	xmit := Freed{Function: "tun_net_xmit [tun]", Count: 4}
	tap := Freed{Function: "tpacket_rcv", Count: 24}
	more := func(f Freed, n uint64) Freed { f.Count += n; return f }
	for _, test := range []struct {
		name     string
		consumed []Freed
		received uint64
		missing  int64
		unseen   uint64
		want     map[string]uint64
		err      string
	}{
		{"all were received", []Freed{read}, 20, 0, 0, nil, ""},
		{"the transmit has freed some", []Freed{read, xmit}, 20, 4, 0, map[string]uint64{"consume_skb@tun_net_xmit [tun]": 4}, ""},
		{"and nothing was received", []Freed{xmit}, 0, 4, 0, map[string]uint64{"consume_skb@tun_net_xmit [tun]": 4}, ""},
		{"the reader has", []Freed{more(read, 3)}, 20, 3, 0, map[string]uint64{"consume_skb@tun_do_read [tun]": 3}, ""},
		{"both have", []Freed{more(read, 3), xmit}, 20, 7, 0, map[string]uint64{"consume_skb@tun_do_read [tun]": 3, "consume_skb@tun_net_xmit [tun]": 4}, ""},
		{"the kernel does not say who", []Freed{{Count: 24}}, 20, 4, 0, map[string]uint64{"consume_skb": 4}, ""},
		{"a reader by another name", []Freed{{Function: "ring_read", Count: 20}, xmit}, 20, 4, 0, map[string]uint64{"consume_skb@tun_net_xmit [tun]": 4}, ""},
		{"which of two is the reader is not known", []Freed{{Function: "a", Count: 20}, {Function: "b", Count: 30}}, 20, 30, 0, map[string]uint64{"consume_skb": 30}, ""},
		{"clones", []Freed{read, tap}, 20, 0, 0, nil, ""},
		{"clones, and a packet that is nowhere", []Freed{read, tap}, 20, 1, 0, nil, ""},
		{"copies, and the originals freed", []Freed{read, more(xmit, 16)}, 20, 0, 0, nil, ""},
		{"a packet that nobody freed", []Freed{read}, 20, 1, 0, nil, ""},
		{"some that nobody freed", []Freed{read, xmit}, 20, 5, 0, nil, "5 packets are nowhere, but 4 more"},
		{"more freed than are nowhere", []Freed{read, xmit}, 20, 3, 0, nil, "3 packets are nowhere, but 4 more"},
		{"one was not seen", []Freed{read, xmit}, 20, 5, 1, map[string]uint64{"consume_skb@tun_net_xmit [tun]": 4, "consume_skb": 1}, ""},
		{"one that was not seen explains nothing alone", []Freed{read}, 20, 1, 1, nil, ""},
		{"too many packets", []Freed{read, xmit}, 20, -4, 0, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			have, err := quiet(test.consumed, tun.Driver.Readers, test.received, test.missing, test.unseen)
			if !maps.Equal(have, test.want) {
				t.Errorf("have %v, want %v", have, test.want)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("have %v, want %q", err, test.err)
			}
		})
	}
}

// TestQuietAtTheOtherEnd: what arrives at the other end is no longer the device's, so
// however much that is, what the device's driver frees quietly is all that it frees so.
func TestQuietAtTheOtherEnd(t *testing.T) {
	consumed := []Freed{{Function: "veth_xmit", Count: 3}}
	have, err := quiet(consumed, nil, 100, 3, 0)
	if want := map[string]uint64{"consume_skb@veth_xmit": 3}; err != nil || !maps.Equal(have, want) {
		t.Errorf("have %v, %v, want %v", have, err, want)
	}
	if have, err := quiet(consumed, nil, 100, 2, 0); err == nil {
		t.Errorf("2 packets are missing, 3 were consumed: have %v, want an error", have)
	}
}
