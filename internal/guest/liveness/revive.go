package liveness

import (
	"errors"
	"fmt"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"golang.org/x/sys/unix"
)

const none = "none of what was tried"

// revive tries one action after the other, the smallest first, until the device moves
// again.
func (c *check) revive(s *Stall, flow int) {
	// A device that is revived moves sooner than after all the patience that showed
	// the stall.
	c.cfg.Patience = min(c.cfg.Patience, time.Second)
	flows := []int{flow}
	if flow == allFlows {
		flows = nil
		for i := range c.cfg.Fresh {
			flows = append(flows, i)
		}
	}
	s.Revived = none
	for _, r := range c.revivals(s, flows) {
		before := c.cfg.Received()
		own, err := r.do()
		name := r.name
		if err != nil {
			name += fmt.Sprintf(" (%v)", err)
		}
		revived, again := c.moves(before+own, flows)
		if revived {
			s.Revived, s.Again = name, again
			return
		}
		s.Tried = append(s.Tried, name)
	}
}

// attempt is a revival that may itself make packets arrive, own of them.
type attempt struct {
	name string
	do   func() (own uint64, err error)
}

func (c *check) revivals(s *Stall, flows []int) []attempt {
	attempts := []attempt{{"another read", func() (uint64, error) { return 0, readOnce(c.cfg.Queues) }}}
	if c.cfg.Bypass != nil {
		attempts = append(attempts, attempt{"a packet past the qdisc", func() (uint64, error) { return c.bypass(s, flows) }})
	}
	attempts = append(attempts, attempt{"a fresh packet through the qdisc", func() (uint64, error) { return 0, c.send(flows) }})
	for _, r := range c.cfg.Revivals {
		attempts = append(attempts, attempt{r.Name, func() (uint64, error) { return 0, r.Do() }})
	}
	return attempts
}

// moves says whether packets that were stuck arrive, more than expected in all,
// or, if there are none or the qdisc was emptied otherwise, fresh ones. Where
// the wakeup is lost each time and not once in a while, the device stalls again
// soon: again says how.
func (c *check) moves(expected uint64, flows []int) (revived bool, again string) {
	now, _, err := c.watch(func(s sight) bool { return drained(s) && s.received > expected })
	if err != nil {
		return false, ""
	}
	revived = now.received > expected
	if now.qlen > 0 {
		return revived, "the qdisc holds " + contract.Count(now.qlen, "packet")
	}
	for _, flow := range flows {
		why, err := c.fresh(flow)
		if err != nil {
			return revived, err.Error()
		}
		if why != "" {
			return revived, why
		}
	}
	return true, ""
}

// readOnce reads each queue once, and does not wait where there is nothing.
func readOnce(queues []int) error {
	for _, fd := range queues {
		if fd < 0 {
			continue
		}
		_, err := unix.Preadv2(fd, [][]byte{make([]byte, 2048)}, -1, unix.RWF_NOWAIT)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	return nil
}

// bypass sends a packet past the qdisc on each flow. Whether it gets through
// tells whether the txq is stopped.
func (c *check) bypass(s *Stall, flows []int) (own uint64, err error) {
	for _, flow := range flows {
		if flow >= len(c.cfg.Bypass) {
			continue
		}
		outcome, err := c.cfg.Bypass[flow].Send()
		switch {
		case err != nil:
			return own, err
		case outcome == traffic.Refused:
			s.Stopped = append(s.Stopped, fmt.Sprintf("flow %d: its txq is stopped: a packet past the qdisc was refused with the ring empty", flow))
		case outcome == traffic.Sent:
			own++
			s.Stopped = append(s.Stopped, fmt.Sprintf("flow %d: its txq is not stopped: a packet past the qdisc was taken", flow))
		}
	}
	return own, nil
}

// send sends a fresh packet on each flow. A qdisc that is full refuses it, and
// is made to run all the same (net/core/dev.c: __dev_xmit_skb).
func (c *check) send(flows []int) error {
	for _, flow := range flows {
		if outcome, err := c.cfg.Fresh[flow].Send(); err != nil {
			return err
		} else if outcome == traffic.Full {
			return fmt.Errorf("flow %d: %v", flow, outcome)
		}
	}
	return nil
}
