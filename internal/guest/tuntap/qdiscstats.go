package tuntap

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// QdiscStats are the counters of one qdisc. They are 32 bits wide in the
// kernel and wrap (include/uapi/linux/gen_stats.h: struct gnet_stats_queue).
type QdiscStats struct {
	Kind Kind
	// Handle and Parent as tc shows them: "1:0", parent "root" or a class.
	Handle, Parent string
	Qlen           uint32 // packets it holds
	Backlog        uint32 // bytes it holds
	Drops          uint32
	Requeues       uint32 // packets that the driver did not take at once
	Overlimits     uint32
	Packets        uint32 // dequeued
}

// QdiscStats reads the counters of each qdisc of the device, the root first.
func (d *Device) QdiscStats() ([]QdiscStats, error) {
	qdiscs, err := netlink.QdiscList(d.link())
	// The list changed while it was read; the next try sees it whole.
	for range 10 {
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		qdiscs, err = netlink.QdiscList(d.link())
	}
	if err != nil {
		return nil, fmt.Errorf("list the qdiscs of %s: %w", d.name, err)
	}
	var stats []QdiscStats
	for _, q := range qdiscs {
		s := QdiscStats{
			Kind:   Kind(q.Type()),
			Handle: netlink.HandleStr(q.Attrs().Handle),
			Parent: netlink.HandleStr(q.Attrs().Parent),
		}
		if kernel := q.Attrs().Statistics; kernel != nil {
			s.Qlen, s.Backlog = kernel.Queue.Qlen, kernel.Queue.Backlog
			s.Drops, s.Requeues, s.Overlimits = kernel.Queue.Drops, kernel.Queue.Requeues, kernel.Queue.Overlimits
			s.Packets = kernel.Basic.Packets
		}
		if q.Attrs().Parent == netlink.HANDLE_ROOT {
			stats = append([]QdiscStats{s}, stats...)
		} else {
			stats = append(stats, s)
		}
	}
	return stats, nil
}

// SumQdiscs adds the counters up. An mq is left out: its counters are the sums
// of its leaves' (net/sched/sch_mq.c: mq_dump).
func SumQdiscs(stats []QdiscStats) QdiscStats {
	var sum QdiscStats
	for _, s := range stats {
		if s.Kind == MQ {
			continue
		}
		sum.Qlen += s.Qlen
		sum.Backlog += s.Backlog
		sum.Drops += s.Drops
		sum.Requeues += s.Requeues
		sum.Overlimits += s.Overlimits
		sum.Packets += s.Packets
	}
	return sum
}
