package vm

import (
	"regexp"
	"slices"
	"strings"
)

// Of what there is to report, these are found by the way, wherever they are. The
// others say that something is wrong with memory, a CPU or a task, which may be
// the cause of anything.
var byTheWay = []Kind{Warning, Lockdep, UBSAN, KCSAN}

var (
	// function is how the kernel prints a place in one (lib/vsprintf.c: %pS),
	// with its module behind it.
	function = regexp.MustCompile(`\b([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[(\w+)\])?`)
	// interrupted is what an interrupt's own stack ends with
	// (arch/x86/kernel/dumpstack.c: show_trace_log_lvl): what follows is where it
	// happened to come.
	interrupted = regexp.MustCompile(`(?m)^.*</(IRQ|NMI|#DF)>.*$`)

	// subject matches functions that lead to the device under test or work on
	// it: those of the driver, of vhost, rings, packets, queues, qdiscs, sockets
	// and netlink, and those of our instruments.
	subject = regexp.MustCompile(`^_*(` + strings.Join([]string{
		`tun`, `tap_`, `veth`, `vhost`, `virtio`, `ptr_ring`, `skb`, `kfree_skb`, `consume_skb`, `sk_`, `xdp`, `page_pool`,
		`net_`, `netif`, `netdev`, `netlink`, `nlmsg`, `rtnl`, `rtnetlink`, `rtm_`, `napi`, `softnet`, `process_backlog`, `linkwatch`, `flush_backlog`,
		`dev_(queue|hard_start|direct|activate|deactivate|open|close|change|ifsioc|qdisc|watchdog|set_(mtu|mac|flags|group|tx)|kfree|consume|loopback|forward|graft|shutdown|reset_queue|init_scheduler|requeue|trans|ingress|xdp|uc_|mc_)`,
		`qdisc`, `sch_`, `tc_`, `tcf_`, `fq_`, `codel`, `[pb]fifo`, `noop_(enqueue|dequeue|qdisc)`, `noqueue`, `mq_`, `tbf_`, `netem_`, `gnet_`,
		`sock`, `inet`, `ip_`, `ip6`, `ipv6`, `udp`, `tcp`, `arp_`, `neigh`, `dst_`, `fib`, `t?packet_`, `eth_`, `loopback`, `pktgen`,
		`bpf`, `perf_`, `hw_breakpoint`, `k(ret)?probe`, `trace_`,
	}, "|") + `)`)
	// subjectFile matches files of the same, as a WARNING names its own.
	subjectFile = regexp.MustCompile(`\b(drivers/(net|vhost|virtio)|net|include/net|kernel/bpf|kernel/events|kernel/trace)/\S*\.[ch]:\d+|include/linux/(ptr_ring|skb|netdevice|vhost|virtio|if_tun|xdp|filter)\S*\.h:\d+`)
	// corruption matches files whose warnings say that memory is not what it
	// should be: whoever is to blame is not on the stack.
	corruption = regexp.MustCompile(`\b(mm|lib)/(\w+/)*(list_debug|refcount|debugobjects|slub|slab\w*|page_\w+|kasan|kfence|usercopy)\S*\.c:\d+|_saturate|list_(add|del)_`)
	// trace begins the functions on a stack.
	trace = regexp.MustCompile(`(?i)call trace:|stack backtrace:`)
	// subjectModule matches modules with nothing else in them.
	subjectModule = regexp.MustCompile(`^(tun|tap|veth|vhost|vhost_net|vhost_iotlb|virtio_\w+|sch_\w+|pktgen|af_packet)$`)
	// subjectLock matches locks of the same, as lockdep names them.
	subjectLock = regexp.MustCompile(`\((&?\w*->)?\w*(producer_lock|consumer_lock|_xmit_|xmit_lock|q\.lock|busylock|seqlock|tx_global_lock|rtnl|vhost|vq|tun|sk_lock|slock|dev->)`)
)

// Unrelated says why the report has nothing to do with the device under test; ""
// if it may have, or if nobody can tell. It goes by the functions on the stack;
// of an interrupt's, those of the interrupt alone.
func (r KernelReport) Unrelated() string {
	if !slices.Contains(byTheWay, r.Kind) {
		return ""
	}
	text := r.Text
	if end := interrupted.FindStringIndex(text); end != nil && r.Kind != Lockdep {
		text = text[:end[0]]
	}
	functions := function.FindAllStringSubmatch(text, -1)
	if len(functions) == 0 || !trace.MatchString(text) {
		return ""
	}
	if subjectFile.MatchString(text) || subjectLock.MatchString(text) || corruption.MatchString(text) {
		return ""
	}
	for _, f := range functions {
		if subject.MatchString(f[1]) || subjectModule.MatchString(f[2]) {
			return ""
		}
	}
	return "no function on its stack has to do with the device under test"
}
