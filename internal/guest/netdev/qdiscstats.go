package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
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
//
// The request is our own: netlink.QdiscList lets the older TCA_STATS, which
// comes last and has no requeues, overwrite what TCA_STATS2 says
// (net/core/gen_stats.c: gnet_stats_finish_copy).
func (d *Device) QdiscStats() ([]QdiscStats, error) {
	dump := func() ([][]byte, error) {
		req := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_DUMP)
		req.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(d.index)})
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	}
	messages, err := dump()
	// The list changed while it was read; the next try sees it whole.
	for range 10 {
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		messages, err = dump()
	}
	if err != nil {
		return nil, fmt.Errorf("list the qdiscs of %s: %w", d.name, err)
	}
	var stats []QdiscStats
	for _, m := range messages {
		tc := nl.DeserializeTcMsg(m)
		if int(tc.Ifindex) != d.index {
			continue // before Linux 4.20 the dump is of all devices
		}
		s, err := parseQdisc(tc, m[tc.Len():])
		if err != nil {
			return nil, fmt.Errorf("list the qdiscs of %s: %w", d.name, err)
		}
		if tc.Parent == netlink.HANDLE_ROOT {
			stats = append([]QdiscStats{s}, stats...)
		} else {
			stats = append(stats, s)
		}
	}
	return stats, nil
}

func parseQdisc(tc *nl.TcMsg, attributes []byte) (QdiscStats, error) {
	s := QdiscStats{Handle: netlink.HandleStr(tc.Handle), Parent: netlink.HandleStr(tc.Parent)}
	attrs, err := nl.ParseRouteAttr(attributes)
	if err != nil {
		return s, err
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case nl.TCA_KIND:
			s.Kind = Kind(unix.ByteSliceToString(a.Value))
		case nl.TCA_STATS2:
			if err := s.parseStats(a.Value); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// parseStats reads TCA_STATS2 (include/uapi/linux/gen_stats.h: struct
// gnet_stats_basic {u64 bytes, u32 packets} and struct gnet_stats_queue).
func (s *QdiscStats) parseStats(b []byte) error {
	nested, err := nl.ParseRouteAttr(b)
	if err != nil {
		return err
	}
	native := binary.NativeEndian
	for _, a := range nested {
		switch {
		case a.Attr.Type == nl.TCA_STATS_BASIC && len(a.Value) >= 12:
			s.Packets = native.Uint32(a.Value[8:])
		case a.Attr.Type == nl.TCA_STATS_QUEUE && len(a.Value) >= 20:
			s.Qlen, s.Backlog = native.Uint32(a.Value), native.Uint32(a.Value[4:])
			s.Drops, s.Requeues, s.Overlimits = native.Uint32(a.Value[8:]), native.Uint32(a.Value[12:]), native.Uint32(a.Value[16:])
		}
	}
	return nil
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
