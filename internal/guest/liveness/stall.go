package liveness

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/guest/kmsg"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// allFlows stands for the flow of a packet that was in the qdisc.
const allFlows = -1

// Stall is what was found out about a device that is stalled.
type Stall struct {
	Device string
	// Why is what did not move, and for how long.
	Why string
	// Stats and Qdiscs are the counters before anything was tried.
	Stats  netdev.Stats
	Qdiscs []netdev.QdiscStats
	// Stopped says for each flow of Config.Bypass whether its txq is stopped:
	// past the qdisc nothing but the stop bit, or a full ring, keeps a packet
	// out (net/core/dev.c: __dev_direct_xmit).
	Stopped []string
	// Tried are the revivals that changed nothing, and Revived the first that
	// set the device going. Again is how it then stalled again; "" if it did
	// not.
	Tried          []string
	Revived, Again string
	// Stacks is what the kernel logged when asked for the stacks of all CPUs
	// (sysrq l) and of all blocked tasks (sysrq w).
	Stacks []string
	// Missing is what could not be found out, and why.
	Missing []string
}

func (c *check) stalled(why string, flow int) (*Stall, error) {
	s := &Stall{Device: c.cfg.Device.Name(), Why: why}
	var err error
	if s.Stats, err = c.cfg.Device.Stats(); err != nil {
		s.missing("the device's counters", err)
	}
	if s.Qdiscs, err = c.cfg.Device.QdiscStats(); err != nil {
		s.missing("the qdisc's counters", err)
	}
	if s.Stacks, err = stacks(); err != nil {
		s.missing("stacks", err)
	}
	c.revive(s, flow)
	return s, nil
}

func (s *Stall) missing(what string, err error) {
	s.Missing = append(s.Missing, fmt.Sprintf("%s: %v", what, err))
}

// stacks asks the kernel for them and takes them from its log.
func stacks() ([]string, error) {
	log, err := kmsg.Open()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	for _, key := range []string{"l", "w"} {
		if err := os.WriteFile("/proc/sysrq-trigger", []byte(key), 0); err != nil {
			return nil, fmt.Errorf("ask for them (CONFIG_MAGIC_SYSRQ): %w", err)
		}
	}
	var lines []string
	// The CPUs answer by NMI, and what they say reaches the log some time
	// after.
	for quiet, began := time.Now(), time.Now(); time.Since(quiet) < 300*time.Millisecond && time.Since(began) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		records, err := log.Read()
		for _, r := range records {
			lines = append(lines, r.Text)
			quiet = time.Now()
		}
		if err != nil && !errors.Is(err, kmsg.ErrOverrun) {
			return lines, err
		}
	}
	return lines, nil
}

// Error is the stall in one line.
func (s *Stall) Error() string {
	return fmt.Sprintf("%s is stalled: %s; revived by: %s", s.Device, s.Why, s.revived())
}

func (s *Stall) revived() string {
	if s.Again == "" {
		return s.Revived
	}
	return s.Revived + ", and then stalled again: " + s.Again
}

// String is all of it.
func (s *Stall) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is stalled: %s\n", s.Device, s.Why)
	fmt.Fprintf(&b, "  device: tx_packets %d, tx_dropped %d, tx_errors %d\n", s.Stats.TxPackets, s.Stats.TxDropped, s.Stats.TxErrors)
	for _, q := range s.Qdiscs {
		fmt.Fprintf(&b, "  qdisc %s %s parent %s: qlen %d, backlog %d bytes, sent %d, drops %d, requeues %d\n", q.Kind, q.Handle, q.Parent, q.Qlen, q.Backlog, q.Packets, q.Drops, q.Requeues)
	}
	for _, line := range s.Stopped {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	for _, line := range s.Tried {
		fmt.Fprintf(&b, "  not revived by: %s\n", line)
	}
	fmt.Fprintf(&b, "  revived by: %s\n", s.revived())
	for _, line := range s.Missing {
		fmt.Fprintf(&b, "  not known: %s\n", line)
	}
	for _, line := range s.Stacks {
		fmt.Fprintf(&b, "  | %s\n", line)
	}
	return b.String()
}
