package ledger

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// path says which counter, if any, moves when an skb is freed there; the
// package comment has the table.
type path int

const (
	// unknown: this package does not know the reason or the function. All
	// that are freed there move the same counter, or none.
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

	"drop_func": queueing, // codel, fq_codel

	"tun_ptr_free":                   uncounted,
	"__ptr_ring_swap_queue":          uncounted,
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

// pathFor are the reasons that name a path by themselves, whichever function
// frees.
var pathFor = map[string]path{
	// Every tail drop is to be counted.
	contract.FullRing: driver,

	"QDISC_DROP":       queueing,
	"QDISC_OVERLIMIT":  queueing,
	"QDISC_CONGESTED":  queueing,
	"CAKE_FLOOD":       queueing,
	"FQ_BAND_LIMIT":    queueing,
	"FQ_HORIZON_LIMIT": queueing,
	"FQ_FLOW_LIMIT":    queueing,
}

// pathOfCore are the reasons for which the core drops what finds noqueue.
var pathOfCore = map[string]path{
	notSpecified:      driver,
	"DEV_READY":       driver,
	"RECURSION_LIMIT": driver,
	"SKB_BAD_GSO":     driver,
}

func (f Freed) path() path {
	if p, ok := pathFor[f.Reason]; ok {
		return p
	}
	// A qdisc's drops are merged into it, with reasons of their own.
	if f.function() == "__dev_queue_xmit" {
		return pathOfCore[f.Reason]
	}
	return pathOf[f.function()]
}

// name is the key in contract.Books.Drops.
func (f Freed) name() string { return f.Reason + "@" + f.Function }

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

// readout is what two counters say of one account, and how far they are to be
// believed.
type readout struct {
	device, qdisc uint64
	// replaced: the qdisc's counters do not cover the whole account.
	replaced bool
	// reconfigured: packets may have been freed on the way to a qdisc that
	// was being deactivated, which nothing counts.
	reconfigured bool
}

// maxUnknown bounds how many unknown call sites are tried with each counter, 3
// to the power of it. With more, each skb may have moved any counter.
const maxUnknown = 8

// reconcile compares the counters with what was freed. Of paths that it does
// not know it finds out which counters may count them: those that let everything
// agree. Each call site for itself counts all that it frees, or nothing.
func (r readout) reconcile(freed []Freed, hasReason bool) (contract.Paths, []error) {
	var at [uncounted + 1]uint64
	var sites []Freed
	for _, f := range freed {
		p := f.path()
		if !hasReason && f.function() == "__dev_queue_xmit" {
			p = queueing // the qdisc's and noqueue's look alike
		}
		at[p] += f.Count
		if p == unknown {
			sites = append(sites, f)
		}
	}
	paths := make(contract.Paths)
	add := func(f Freed, c contract.Counter) {
		if !slices.Contains(paths[f.name()], c) {
			paths[f.name()] = append(paths[f.name()], c)
		}
	}
	counters := []contract.Counter{contract.NoCounter, contract.TxDropped, contract.QdiscDrops}
	if r.reconfigured || len(sites) > maxUnknown {
		for _, f := range sites {
			for _, c := range counters {
				add(f, c)
			}
		}
		return paths, r.disagreements(at[driver], at[queueing], at[unknown])
	}
	chosen := make([]contract.Counter, len(sites))
	var try func(i int, rest readout)
	try = func(i int, rest readout) {
		if i == len(sites) {
			if rest.disagreements(at[driver], at[queueing], 0) == nil {
				for i, f := range sites {
					add(f, chosen[i])
				}
			}
			return
		}
		n := sites[i].Count
		for _, chosen[i] = range counters {
			next := rest
			switch chosen[i] {
			case contract.TxDropped:
				next.device -= n
			case contract.QdiscDrops:
				next.qdisc -= n
			}
			// The qdisc's counters may have begun anew if it was replaced.
			if next.device <= rest.device && (next.qdisc <= rest.qdisc || r.replaced) {
				try(i+1, next)
			}
		}
	}
	try(0, r)
	if len(paths) > 0 {
		return paths, nil
	}
	errs := r.disagreements(at[driver], at[queueing], 0)
	if len(sites) > 0 {
		var names []string
		for _, f := range sites {
			paths[f.name()] = nil
			names = append(names, fmt.Sprintf("%s %d", f.name(), f.Count))
		}
		errs = append(errs, fmt.Errorf("nor do they agree whichever counter counts what was freed on unknown paths: %s", strings.Join(names, ", ")))
	}
	return paths, errs
}

// disagreements compares the counters with so many skbs that the driver, the
// qdisc, and either of them or nobody has to count; nil if they agree.
func (r readout) disagreements(driver, queueing, anybody uint64) (errs []error) {
	disagree := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	most := driver + queueing + anybody
	switch {
	case r.device < driver:
		disagree("%d skbs were freed where tx_dropped counts them, but it rose by %d only", driver, r.device)
	case r.device > most:
		disagree("tx_dropped rose by %d, but only %d skbs were freed where it may count them", r.device, most)
	}
	if r.replaced {
		return errs
	}
	if limit := queueing + anybody; r.qdisc > limit {
		disagree("the qdisc counts %d drops, but only %d skbs were freed where it may count them", r.qdisc, limit)
	}
	counted := driver + queueing
	switch both := r.device + r.qdisc; {
	case both < counted && r.device >= driver && !r.reconfigured:
		disagree("%d skbs were freed where a counter counts them, but tx_dropped %d and the qdisc's drops %d are %d", counted, r.device, r.qdisc, both)
	case both > most && r.device <= most && r.qdisc <= queueing+anybody:
		disagree("tx_dropped %d and the qdisc's drops %d are %d, but only %d skbs were freed where one of them may count", r.device, r.qdisc, both, most)
	}
	return errs
}
