// Package liveness tells whether a device still moves packets. It looks from outside:
// it needs no debug info and works on any kernel.
//
// When the producers have stopped, the consumers must read everything that was queued.
// The qdisc's backlog must go to zero, and then a fresh packet on each flow must
// arrive. If not, a queue is stalled. This is also true if one more packet would
// revive it, so the backlog is checked before anything is sent.
//
// It does not matter how long this takes, as long as something moves. A guest without
// KVM on a loaded host is slow, and a shaped qdisc may hold packets for a while. Rest
// decides when nothing moves any more.
package liveness

import (
	"errors"
	"fmt"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/rcu"
	"github.com/ringproof/ringproof/internal/guest/traffic"
)

// Device is the device under test; *netdev.Device is one.
type Device interface {
	Name() string
	Stats() (netdev.Stats, error)
	QdiscStats() ([]netdev.QdiscStats, error)
}

// Sender sends one fresh packet and never blocks; *traffic.Sender is one.
type Sender interface {
	Send() (traffic.Outcome, error)
}

// Config says what to look at. Device, Queues, Received and Fresh are needed.
type Config struct {
	Device Device
	// Queues are the descriptors that the consumers read, for poll(2); those
	// below 0 are left out.
	Queues []int
	// Received is how many packets have arrived at the consumers. They must
	// be reading all the time.
	Received func() uint64
	// Flush waits until what the consumers have taken from the rings counts
	// as received; nil if it does at once.
	Flush func() error
	// Asleep says whether a ring has packets while all of its readers sleep in the
	// kernel: if that lasts, nothing has woken them. Nil if that cannot be told.
	Asleep func() (bool, error)
	// Fresh has a sender for each flow to be tried, through the qdisc. There
	// should be one for each txq, on a socket that has nothing queued.
	Fresh []Sender
	// Bypass has the same flows, past the qdisc. It is used only when the
	// device is stalled, to learn more; nil is not at all.
	Bypass []Sender
	// Patience is for how long nothing may move; 0 means 2 s.
	Patience time.Duration
	// Hold is for how long a shaped qdisc may lawfully release nothing: for
	// netem its delay, for tbf the time that the largest packet takes at its
	// rate. 0 if it is not shaped.
	Hold time.Duration
	// Revivals are tried in order on a device that is stalled and that
	// neither a read nor a packet revives.
	Revivals []driver.Revival
}

// NotReadError says that the consumers leave packets in the rings, and are not asleep:
// then nothing can be said about the device.
type NotReadError struct {
	Device string
	Waited time.Duration
}

func (e *NotReadError) Error() string {
	return fmt.Sprintf("the consumers of %s have read nothing for %v although there is something to read", e.Device, e.Waited.Round(time.Millisecond))
}

// ErrFreshNotSent says that a fresh packet could not be sent at all.
var ErrFreshNotSent = errors.New("the fresh packet could not be sent")

// Settle waits until all that is queued has arrived, or nothing moves any more:
// the moment to close the books. It sends nothing and changes nothing. The
// producers must have stopped.
func Settle(cfg Config) error {
	c := newCheck(cfg)
	for {
		before, _, err := c.watch(drained)
		if err != nil {
			return fmt.Errorf("wait until %s is quiet: %w", cfg.Device.Name(), err)
		}
		// One that had left the qdisc may not have been in the ring yet.
		rcu.Synchronize()
		if cfg.Flush != nil {
			if err := cfg.Flush(); err != nil {
				return fmt.Errorf("wait until %s is quiet: %w", cfg.Device.Name(), err)
			}
		}
		now, err := c.look()
		if err != nil {
			return fmt.Errorf("wait until %s is quiet: %w", cfg.Device.Name(), err)
		}
		if now == before {
			return nil
		}
	}
}

// Check waits until all that is queued has arrived, and then sends a fresh
// packet on each flow. The producers must have stopped. It returns nil if
// everything arrived, and what it found out if the device is stalled. In the
// course of that the device is changed, so close the books before.
func Check(cfg Config) (*Stall, error) {
	stall, err := newCheck(cfg).run()
	if err != nil {
		return nil, fmt.Errorf("check that %s is alive: %w", cfg.Device.Name(), err)
	}
	return stall, nil
}

type check struct{ cfg Config }

func newCheck(cfg Config) *check {
	if cfg.Patience == 0 {
		cfg.Patience = 2 * time.Second
	}
	return &check{cfg: cfg}
}

func (c *check) run() (*Stall, error) {
	// Rings that nobody polls say nothing of what is in them.
	if c.cfg.Flush != nil {
		if err := c.cfg.Flush(); err != nil {
			return nil, err
		}
	}
	now, waited, err := c.watch(drained)
	if err != nil {
		return nil, err
	}
	if now.readable {
		return c.stalled("a ring has packets, but "+notWoken(waited), allFlows)
	}
	if !drained(now) {
		why := fmt.Sprintf("the qdisc holds %s and the rings are empty, but nothing moved for %v", contract.Count(now.qlen, "packet"), waited.Round(time.Millisecond))
		return c.stalled(why, allFlows)
	}
	for flow := range c.cfg.Fresh {
		why, err := c.fresh(flow)
		if err != nil {
			return nil, err
		}
		if why != "" {
			return c.stalled(why, flow)
		}
	}
	return nil, nil
}

// fresh sends a packet on a flow of a device that holds none, and says what is
// wrong if it does not arrive.
func (c *check) fresh(flow int) (why string, err error) {
	before := c.cfg.Received()
	outcome, err := c.cfg.Fresh[flow].Send()
	switch {
	case err != nil:
		return "", fmt.Errorf("flow %d: %w: %w", flow, ErrFreshNotSent, err)
	case outcome == traffic.Full:
		return "", fmt.Errorf("flow %d: %w: the send buffer is full of what this socket sent before", flow, ErrFreshNotSent)
	case outcome == traffic.Refused:
		return fmt.Sprintf("a fresh packet on flow %d was refused although nothing is queued", flow), nil
	}
	now, waited, err := c.watch(func(s sight) bool { return s.received > before && drained(s) })
	if err != nil {
		return "", err
	}
	switch {
	case now.readable:
		return fmt.Sprintf("a fresh packet on flow %d is in a ring, but %s", flow, notWoken(waited)), nil
	case now.received > before && now.qlen == 0:
		return "", nil
	case now.qlen > 0:
		return fmt.Sprintf("a fresh packet on flow %d stayed in the qdisc for %v although the rings are empty", flow, waited.Round(time.Millisecond)), nil
	}
	return fmt.Sprintf("a fresh packet on flow %d did not arrive within %v and is not in the qdisc either", flow, waited.Round(time.Millisecond)), nil
}

func notWoken(waited time.Duration) string {
	return fmt.Sprintf("nothing has woken its reader, which has slept for %v", waited.Round(time.Millisecond))
}

func drained(s sight) bool { return s.qlen == 0 && !s.readable }
