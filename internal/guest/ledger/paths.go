package ledger

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
)

// pathOf says what counts a packet that is freed in a function of the core's; the
// package comment has the table, and a driver's own functions are the driver's to
// say.
var pathOf = map[string]driver.Path{
	"__dev_direct_xmit":      driver.DriverCounts,
	"validate_xmit_skb":      driver.DriverCounts,
	"validate_xmit_skb_list": driver.DriverCounts,

	// codel and fq_codel. Debian's compiler merges drop_func into the dequeue
	// functions that call it (include/net/codel_impl.h: codel_dequeue).
	"drop_func":           driver.QdiscCounts,
	"codel_dequeue":       driver.QdiscCounts,
	"codel_qdisc_dequeue": driver.QdiscCounts,
	"__fq_codel_dequeue":  driver.QdiscCounts,
	"fq_codel_dequeue":    driver.QdiscCounts,

	"dev_direct_xmit":                driver.Uncounted,
	"packet_xmit":                    driver.Uncounted,
	"packet_snd":                     driver.Uncounted,
	"packet_sendmsg":                 driver.Uncounted,
	"packet_direct_xmit":             driver.Uncounted,
	"pfifo_fast_reset":               driver.Uncounted,
	"pfifo_fast_change_tx_queue_len": driver.Uncounted,
	"qdisc_reset":                    driver.Uncounted,
	"pktgen_stop_device":             driver.Uncounted,
	"pktgen_rem_one_if":              driver.Uncounted,
	"skb_queue_purge_reason":         driver.Uncounted,
	"rtnl_unlock":                    driver.Uncounted,
	"__rtnl_unlock":                  driver.Uncounted,
	"netdev_run_todo":                driver.Uncounted,
}

// function is the name without its module.
func (f Freed) function() string {
	name, _, _ := strings.Cut(f.Function, " ")
	return name
}

// pathFor are the reasons that name a path by themselves, whichever function
// frees.
var pathFor = map[string]driver.Path{
	// Every tail drop is to be counted.
	contract.FullRing: driver.DriverCounts,

	"QDISC_DROP":       driver.QdiscCounts,
	"QDISC_OVERLIMIT":  driver.QdiscCounts,
	"QDISC_CONGESTED":  driver.QdiscCounts,
	"CAKE_FLOOD":       driver.QdiscCounts,
	"FQ_BAND_LIMIT":    driver.QdiscCounts,
	"FQ_HORIZON_LIMIT": driver.QdiscCounts,
	"FQ_FLOW_LIMIT":    driver.QdiscCounts,
}

// pathOfCore are the reasons for which the core drops what finds noqueue.
var pathOfCore = map[string]driver.Path{
	notSpecified:      driver.DriverCounts,
	"DEV_READY":       driver.DriverCounts,
	"RECURSION_LIMIT": driver.DriverCounts,
	"SKB_BAD_GSO":     driver.DriverCounts,
}

func (f Freed) path(drv *driver.Driver) driver.Path {
	if p, ok := pathFor[f.Reason]; ok {
		return p
	}
	// A qdisc's drops are merged into it, with reasons of their own.
	if f.function() == "__dev_queue_xmit" {
		return pathOfCore[f.Reason]
	}
	if p, ok := drv.Paths[f.function()]; ok {
		return p
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
func (r readout) reconcile(freed []Freed, drv *driver.Driver, hasReason bool) (contract.Paths, []error) {
	var at [driver.Uncounted + 1]uint64
	var sites []Freed
	for _, f := range freed {
		p := f.path(drv)
		if !hasReason && f.function() == "__dev_queue_xmit" {
			p = driver.QdiscCounts // the qdisc's and noqueue's look alike
		}
		at[p] += f.Count
		if p == driver.Unknown {
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
		return paths, r.disagreements(at[driver.DriverCounts], at[driver.QdiscCounts], at[driver.Unknown])
	}
	chosen := make([]contract.Counter, len(sites))
	var try func(i int, rest readout)
	try = func(i int, rest readout) {
		if i == len(sites) {
			if rest.disagreements(at[driver.DriverCounts], at[driver.QdiscCounts], 0) == nil {
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
	errs := r.disagreements(at[driver.DriverCounts], at[driver.QdiscCounts], 0)
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
	freed := func(n uint64) string { return contract.Count(n, "skb was", "skbs were") }
	disagree := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	most := driver + queueing + anybody
	switch {
	case r.device < driver:
		disagree("%s freed where tx_dropped counts, but it rose by %d only", freed(driver), r.device)
	case r.device > most:
		disagree("tx_dropped rose by %d, but only %s freed where it may count", r.device, freed(most))
	}
	if r.replaced {
		return errs
	}
	if limit := queueing + anybody; r.qdisc > limit {
		disagree("the qdisc counts %s, but only %s freed where it may count", contract.Count(r.qdisc, "drop"), freed(limit))
	}
	counted := driver + queueing
	switch both := r.device + r.qdisc; {
	case both < counted && r.device >= driver && !r.reconfigured:
		disagree("%s freed where a counter counts, but tx_dropped %d and the qdisc's drops %d are %d", freed(counted), r.device, r.qdisc, both)
	case both > most && r.device <= most && r.qdisc <= queueing+anybody:
		disagree("tx_dropped %d and the qdisc's drops %d are %d, but only %s freed where one of them may count", r.device, r.qdisc, both, freed(most))
	}
	return errs
}
