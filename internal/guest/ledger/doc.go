// Package ledger keeps the account of one network device: which of its skbs
// were freed where and why, and whether the kernel's own counters say the same.
//
// The primary witness is the tracepoint skb:kfree_skb, counted by an eBPF
// program for each reason and each function that frees, exactly, on all CPUs.
// It needs no debug info: an skb is the device's if skb->dev points to its
// struct net_device, and the kernel itself tells where both are (see
// findDevice). It sees what no counter shows, and the counters are compared
// with it. This is where a transmitted skb can be freed in Linux 6.12, and what
// counts it:
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
// A reason or function that is not in the table may move any counter or none.
// Which it is follows from the others: all that one call site frees is taken to
// move tx_dropped, or the qdisc's drops, or nothing, and if one of these lets all
// witnesses agree, the books are valid, and Books.Unknown names the path with
// the counters that it may move. Linux 7.3 has one, QDISC_BURST_DROP in
// __dev_queue_xmit, which nothing counts (net/core/dev.c: __dev_xmit_skb). A
// FULL_RING drop is never unknown: tx_dropped must count it, whoever frees.
//
// The second witness is skb:consume_skb, for packets that are freed as delivered.
// The reader does that with all that it has handed over. If packets are nowhere,
// and exactly so many more were consumed than received, they were freed quietly:
// lost, and not called dropped. Books.Quiet names the function, where the kernel
// says it (Linux 6.3). One that calls a helper which is not inlined, such as
// dev_consume_skb_any, has the helper's name. What is freed by __kfree_skb itself,
// as kfree_skb_partial does, neither tracepoint shows: then the books do not
// balance.
//
// XDP frames are no skbs: tun_xdp_xmit raises tx_dropped for one that does not
// fit, and the account says that the two disagree.
//
// What is not an skb's last reference shows nowhere. pktgen keeps one of each
// packet unless told otherwise by its flag !SHARED (Linux 6.7): it then frees
// delivered and dropped ones alike. Clones, which an ETH_P_ALL socket gets of
// each packet, are freed in addition; they do not count as quiet frees, for
// nothing is missing then.
package ledger
