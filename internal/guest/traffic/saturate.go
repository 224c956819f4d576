package traffic

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// Saturation says how a Sender learnt that there is no more room.
type Saturation struct {
	// Outcome is Refused if the packet was refused, Full if the socket's
	// send buffer filled up because the qdisc gives nothing back, and Sent
	// if the sender was told that all is well while the device's tx_dropped
	// moved.
	Outcome Outcome
	// Sent is how many packets were sent until then.
	Sent uint64
}

// Saturate sends, with the consumer paused, until there is no more room; at
// most limit packets, beyond which it is an error. The packet that found the
// send buffer full is still the sender's next.
func Saturate(s *Sender, limit uint64) (Saturation, error) {
	dropped, err := s.link.dropped()
	if err != nil {
		return Saturation{}, err
	}
	for sent := uint64(0); sent < limit; sent++ {
		outcome, err := s.Send()
		if err != nil {
			return Saturation{}, fmt.Errorf("saturate %s after %d packets: %w", s.link.Name, sent, err)
		}
		if outcome != Sent {
			return Saturation{outcome, sent}, nil
		}
		// Now and then only: it costs more than a packet.
		if sent%16 != 15 {
			continue
		}
		if now, err := s.link.dropped(); err != nil {
			return Saturation{}, err
		} else if now != dropped {
			return Saturation{Sent, sent + 1}, nil
		}
	}
	return Saturation{}, fmt.Errorf("saturate %s: %d packets were sent and there is still room", s.link.Name, limit)
}

// dropped is the device's tx_dropped.
func (l *Link) dropped() (uint64, error) {
	link, err := netlink.LinkByIndex(l.Index)
	if err != nil {
		return 0, fmt.Errorf("read tx_dropped of %s: %w", l.Name, err)
	}
	return link.Attrs().Statistics.TxDropped, nil
}

// NotArrivedError says that a packet, which the kernel took while none stood in its
// way, has not arrived.
type NotArrivedError struct {
	Packet Packet
	Flow   uint16
	Waited time.Duration
}

func (e *NotArrivedError) Error() string {
	return fmt.Sprintf("find the queue of flow %d: %v did not arrive within %v", e.Flow, e.Packet, e.Waited)
}

// FlowsByQueue finds out which of the first flows, so many, arrive on which
// queue, by sending one packet of s on each: result[queue] lists flows. No
// backlog may stand in their way. The answer holds for the source of s alone,
// because its port is part of the hash, and until a queue is attached or
// detached. It leaves s on the last of the flows: see SetFlow. Errors to tell apart
// with errors.As: *NotArrivedError, after which s is on the flow of that packet.
func FlowsByQueue(s *Sender, c *Consumer, flows int) ([][]uint16, error) {
	byQueue := make([][]uint16, len(c.fds))
	for flow := range uint16(flows) {
		s.SetFlow(flow)
		arrival := c.Expect(s.Next())
		outcome, err := s.Send()
		if err == nil && outcome != Sent {
			err = fmt.Errorf("the packet was not sent: %v", outcome)
		}
		if err != nil {
			arrival.Wait(0)
			return nil, fmt.Errorf("find the queue of flow %d: %w", flow, err)
		}
		const patience = 5 * time.Second
		queue, ok := arrival.Wait(patience)
		if !ok {
			return nil, &NotArrivedError{arrival.packet, flow, patience}
		}
		byQueue[queue] = append(byQueue[queue], flow)
	}
	return byQueue, nil
}
