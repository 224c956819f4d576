package ledger

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/ringproof/ringproof/internal/contract"
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
		want             path
	}{
		{"FULL_RING", "tun_net_xmit", driver},
		{"FULL_RING", "tun_something_new [tun]", driver},
		{"DEV_READY", "tun_net_xmit [tun]", driver},
		{"NOT_SPECIFIED", "__dev_queue_xmit", driver},
		{"QDISC_DROP", "__dev_queue_xmit", queueing},
		{"FQ_FLOW_LIMIT", "__dev_queue_xmit", queueing},
		{"NOT_SPECIFIED", "drop_func [sch_fq_codel]", queueing},
		{"NOT_SPECIFIED", "tun_queue_purge", uncounted},
		{"NOT_SPECIFIED", "__rtnl_unlock", uncounted},
		{"NOT_SPECIFIED", "pktgen_stop_device [pktgen]", uncounted},
		{"NOT_SPECIFIED", "something_new", unknown},
	} {
		if got := (Freed{Reason: test.reason, Function: test.function}).path(); got != test.want {
			t.Errorf("%s@%s: have %v, want %v", test.reason, test.function, got, test.want)
		}
	}
}

func TestDisagreementsNameBothFigures(t *testing.T) {
	tail := Freed{"FULL_RING", "tun_net_xmit", 10}
	limit := Freed{"QDISC_DROP", "__dev_queue_xmit", 5}
	purge := Freed{"NOT_SPECIFIED", "tun_queue_purge", 7}
	strange := Freed{"NOT_SPECIFIED", "something_new", 3}
	type counters struct{ device, qdisc uint64 }
	for _, test := range []struct {
		name                   string
		freed                  []Freed
		counters               counters
		replaced, reconfigured bool
		want                   []string // in the only error; nil if there is none
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
		{"one drop counted twice", []Freed{limit, strange}, counters{8, 1}, false, false, []string{"tx_dropped 8", "drops 1", "are 9", "only 8"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			books := &contract.Books{DeviceTxDropped: test.counters.device, QdiscDropped: test.counters.qdisc}
			errs := disagreements(books, test.freed, true, test.replaced, test.reconfigured)
			if test.want == nil {
				if len(errs) != 0 {
					t.Errorf("false alarm: %v", errs)
				}
				return
			}
			if len(errs) != 1 {
				t.Fatalf("have %v, want one error", errs)
			}
			for _, want := range test.want {
				if !strings.Contains(errs[0].Error(), want) {
					t.Errorf("%q does not say %q", errs[0], want)
				}
			}
		})
	}
}
