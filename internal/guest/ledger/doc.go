// Package ledger keeps the account of one network device: which of its skbs were
// freed where and why, and whether the kernel's own counters agree.
//
// The primary witness is the tracepoint skb:kfree_skb. An eBPF program counts its
// events exactly, on all CPUs, for each reason and each function that frees. This
// needs no debug info: an skb belongs to the device if skb->dev points to its struct
// net_device, and the kernel itself shows where both are (see findDevice). The
// tracepoint sees packets that no counter shows, and the counters are compared with
// it. This is where a transmitted skb can be freed in Linux 6.12, and what counts it:
//
//	freed in                   because                                   reason           counted by
//	tun_net_xmit               the ring is full                          FULL_RING        tx_dropped
//	tun_net_xmit               no queue is attached                      DEV_READY        tx_dropped
//	tun_net_xmit               a filter, no memory                       TAP_*, ...       tx_dropped
//	__dev_queue_xmit           noqueue, and the txq is stopped or the    NOT_SPECIFIED    tx_dropped
//	                           driver returns NETDEV_TX_BUSY: "asks
//	                           to queue packet"
//	__dev_queue_xmit           the qdisc is over a limit                 QDISC_*, FQ_*    the qdisc's drops
//	 (from __dev_xmit_skb)     the device has no qdisc: noop             QDISC_DROP       tx_dropped
//	                           the qdisc is being deactivated            QDISC_DROP       nothing
//	drop_func                  codel drops as it dequeues                NOT_SPECIFIED    the qdisc's drops
//	validate_xmit_skb          checksum, GSO or crypto fails             NOT_SPECIFIED    tx_dropped
//	__dev_direct_xmit          past the qdisc: link down, no carrier     NOT_SPECIFIED    tx_dropped
//	packet_xmit, its callers   past the qdisc: the txq is stopped or     NOT_SPECIFIED    nothing
//	 (from dev_direct_xmit)    NETDEV_TX_BUSY
//	tun_queue_purge            a queue is detached or closed             NOT_SPECIFIED    nothing
//	tun_device_event           tx_queue_len made smaller                 NOT_SPECIFIED    nothing
//	 (from tun_queue_resize)
//	tun_do_read                the reader's buffer is bad                NOT_SPECIFIED    nothing
//	__rtnl_unlock              a qdisc is reset or replaced, or its      NOT_SPECIFIED    nothing
//	 (from rtnl_kfree_skbs)    link goes down
//	pfifo_fast_reset           the same                                  NOT_SPECIFIED    nothing
//	pktgen_stop_device         pktgen has made it, and no queue took it  NOT_SPECIFIED    nothing
//	sch_direct_xmit            never: the packet is requeued             -                requeues
//
// Functions that the compiler merged into a caller have the caller's name.
//
// A reason or function that is not in the table may move any counter or none. The
// ledger tries tx_dropped, the qdisc's drops, and no counter for all packets of one
// call site. If one choice makes all witnesses agree, the books are valid, and
// Books.Unknown names the path with the counters that it may move. Linux 7.3 has such
// a path: nothing counts QDISC_BURST_DROP in __dev_queue_xmit (net/core/dev.c:
// __dev_xmit_skb). A FULL_RING drop is never unknown: tx_dropped must count it,
// whoever frees.
//
// The second witness is skb:consume_skb, for packets that are freed as delivered. The
// reader frees each packet that it has handed over like this. If packets are missing,
// and exactly as many more were consumed than received, they were freed quietly: they
// are lost, but not called dropped. Books.Quiet names the function, where the kernel
// says it (Linux 6.3). If the function calls a helper that is not inlined, such as
// dev_consume_skb_any, it has the helper's name. Neither tracepoint shows packets that
// __kfree_skb itself frees, as in kfree_skb_partial: then the books do not balance.
//
// XDP frames are no skbs. tun_xdp_xmit raises tx_dropped for a frame that does not fit,
// and the account then shows that tx_dropped and the tracepoint disagree.
//
// The tracepoints show only the release of the last reference of an skb. pktgen keeps
// a reference of each packet, unless its flag !SHARED is set (Linux 6.7), and frees
// delivered and dropped packets alike. Clones, which an ETH_P_ALL socket gets of each
// packet, are freed in addition. They do not count as quiet frees, because no packet
// is missing then.
package ledger
