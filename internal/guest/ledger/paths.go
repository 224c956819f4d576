package ledger

import (
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// path says which counter, if any, moves when an skb is freed there; the
// package comment has the table.
type path int

const (
	// unknown: this package does not know the function. It may move any
	// counter, or none.
	unknown path = iota
	// driver: the device's tx_dropped.
	driver
	// queueing: the qdisc's drops or, while the device has none that is
	// active, the device's tx_dropped.
	queueing
	// uncounted: none.
	uncounted
)

var pathOf = map[string]path{
	"tun_net_xmit":           driver,
	"veth_xmit":              driver,
	"__dev_direct_xmit":      driver,
	"validate_xmit_skb":      driver,
	"validate_xmit_skb_list": driver,
	"__dev_queue_xmit":       driver, // with noqueue; a qdisc's have its reasons

	"drop_func": queueing, // codel, fq_codel

	"tun_ptr_free":                   uncounted,
	"tun_queue_purge":                uncounted,
	"tun_device_event":               uncounted,
	"tun_queue_resize":               uncounted,
	"__tun_detach":                   uncounted,
	"tun_detach_all":                 uncounted,
	"tun_do_read":                    uncounted,
	"dev_direct_xmit":                uncounted,
	"packet_xmit":                    uncounted,
	"packet_snd":                     uncounted,
	"packet_sendmsg":                 uncounted,
	"packet_direct_xmit":             uncounted,
	"pfifo_fast_reset":               uncounted,
	"pfifo_fast_change_tx_queue_len": uncounted,
	"qdisc_reset":                    uncounted,
	"pktgen_stop_device":             uncounted,
	"pktgen_rem_one_if":              uncounted,
	"skb_queue_purge_reason":         uncounted,
	"rtnl_unlock":                    uncounted,
	"__rtnl_unlock":                  uncounted,
	"netdev_run_todo":                uncounted,
}

// function is the name without its module.
func (f Freed) function() string {
	name, _, _ := strings.Cut(f.Function, " ")
	return name
}

func (f Freed) path() path {
	for _, prefix := range []string{"QDISC_", "FQ_", "CAKE_"} {
		if strings.HasPrefix(f.Reason, prefix) {
			return queueing
		}
	}
	// Every tail drop is to be counted, whichever function it is in.
	if f.Reason == contract.FullRing {
		return driver
	}
	return pathOf[f.function()]
}

// deferredByQdisc says whether an skb that is freed there was in a qdisc that
// has been reset: nothing else frees that late (net/core/rtnetlink.c:
// rtnl_kfree_skbs). Out of the rbtree of fq or netem it has no dev any more,
// for that lies in the node (include/linux/skbuff.h: struct sk_buff).
func deferredByQdisc(function string) bool {
	switch function {
	case "rtnl_unlock", "__rtnl_unlock", "netdev_run_todo":
		return true
	}
	return false
}

// disagreements compares the counters with what was freed.
//
// replaced says that the qdisc's counters do not cover the whole account;
// reconfigured that packets may have been freed on the way to a qdisc that was
// being deactivated, which nothing counts.
func disagreements(b *contract.Books, freed []Freed, hasReason, replaced, reconfigured bool) []error {
	var at [uncounted + 1]uint64
	for _, f := range freed {
		p := f.path()
		if !hasReason && f.function() == "__dev_queue_xmit" {
			p = unknown // the qdisc's and noqueue's look alike
		}
		at[p] += f.Count
	}
	var errs []error
	disagree := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	device, qdisc := b.DeviceTxDropped, b.QdiscDropped
	most := at[driver] + at[queueing] + at[unknown]
	switch {
	case device < at[driver]:
		disagree("%d skbs were freed where tx_dropped counts them, but it rose by %d only", at[driver], device)
	case device > most:
		disagree("tx_dropped rose by %d, but only %d skbs were freed where it may count them", device, most)
	}
	if replaced {
		return errs
	}
	if limit := at[queueing] + at[unknown]; qdisc > limit {
		disagree("the qdisc counts %d drops, but only %d skbs were freed where it may count them", qdisc, limit)
	}
	counted := at[driver] + at[queueing]
	switch both := device + qdisc; {
	case both < counted && device >= at[driver] && !reconfigured:
		disagree("%d skbs were freed where a counter counts them, but tx_dropped %d and the qdisc's drops %d are %d", counted, device, qdisc, both)
	case both > most && device <= most && qdisc <= at[queueing]+at[unknown]:
		disagree("tx_dropped %d and the qdisc's drops %d are %d, but only %d skbs were freed where one of them may count", device, qdisc, both, most)
	}
	return errs
}
