package bench

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/guest/iperf3"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

const (
	// tcpTime is how long the streams of a cell send, and tcpDelayed how long in one
	// with a delay, where a window takes some round trips to open.
	tcpTime    = time.Second
	tcpDelayed = 3 * time.Second
	// tcpBytes is what they send where the clock counts instructions.
	tcpBytes = 4 << 20
	// tcpBound is when a transfer is given up: a hundred lost segments in a row that
	// nothing but a timeout repairs (include/net/tcp.h: TCP_RTO_MIN) take 20 s.
	tcpBound = 30 * time.Second
)

// tcpCell is one row of the table.
type tcpCell struct {
	shape
	streams int
	ip      int
}

func (c tcpCell) String() string {
	name := fmt.Sprintf("via=%s/streams=%d/txqlen=%d/ip=%d/delay=%v/qdisc=%s", c.via, c.streams, c.txQueueLen, c.ip, c.delay, c.qdisc.Kind)
	if c.offload {
		name += "/offload=tso"
	}
	return name
}

// tcpCells are those in which one thing differs from a stream or from eight
// through a tap device, or with WORKLOADS=all every combination.
func tcpCells() (cells []tcpCell) {
	usual := tcpCell{shape: shape{via: "tap", txQueueLen: 1000, qdisc: netdev.Qdisc{Kind: netdev.FQCodel}}, streams: 1, ip: 4}
	if os.Getenv("WORKLOADS") == "all" {
		return everyTCPCell(usual)
	}
	but := func(changes ...func(*tcpCell)) {
		c := usual
		for _, change := range changes {
			change(&c)
		}
		cells = append(cells, c)
	}
	eight := func(c *tcpCell) { c.streams = 8 }
	if setting.instructions { // what counts is who does how much, and not how long a queue is
		but()
		but(eight)
		but(func(c *tcpCell) { c.via = "vhost" })
		but(eight, func(c *tcpCell) { c.via = "vhost" })
		return cells
	}
	for _, n := range []int{1, 2, 4, 8, 16} {
		but(func(c *tcpCell) { c.streams = n })
	}
	for _, n := range []int{1, 10, 100} {
		but(func(c *tcpCell) { c.txQueueLen = n })
	}
	// Without KVM several streams hardly fill a ring of 1000.
	but(eight, func(c *tcpCell) { c.txQueueLen = 100 })
	but(func(c *tcpCell) { c.delay = 60 * time.Millisecond })
	but(eight, func(c *tcpCell) { c.ip = 6 })
	but(func(c *tcpCell) { c.via = "vhost" })
	but(eight, func(c *tcpCell) { c.via = "vhost" })
	return cells
}

func everyTCPCell(c tcpCell) (cells []tcpCell) {
	for _, c.via = range []string{"tap", "tun", "vhost"} {
		for _, c.streams = range []int{1, 2, 4, 8, 16} {
			for _, c.txQueueLen = range []int{1, 10, 100, 1000} {
				for _, c.ip = range []int{4, 6} {
					for _, c.delay = range []time.Duration{0, 60 * time.Millisecond} {
						for _, c.qdisc.Kind = range []netdev.Kind{netdev.FQCodel, netdev.PfifoFast} {
							for _, c.offload = range []bool{false, true} {
								if !c.offload || c.via != "vhost" {
									cells = append(cells, c)
								}
							}
						}
					}
				}
			}
		}
	}
	return cells
}

func TestTCP(t *testing.T) {
	for _, c := range tcpCells() {
		t.Run(c.String(), func(t *testing.T) {
			workload := "TCP/" + c.String()
			if err := iperf3.Available(); err != nil {
				sample(t, cost.Sample{Workload: workload, Missing: "iperf3 is not in the image: apt install iperf3"})
				return
			}
			rounds(t, workload, func(s *cost.Sample) error { return c.run(t, s) })
			if setting.instructions {
				c.countStops(t, workload)
			}
		})
	}
}

// countStops runs once more, with an instrument that costs something for each stop, and
// reports nothing but those. Without it there is nothing to report.
func (c tcpCell) countStops(t *testing.T, workload string) {
	stops, err := breakpoint.CountStops()
	if err != nil {
		t.Logf("stops are not counted: %v", err)
		return
	}
	defer stops.Close()
	if err := c.run(t, &cost.Sample{Values: make(map[string]float64)}); err != nil {
		t.Logf("stops are not counted: %v", err)
		return
	}
	n, err := stops.Count()
	if err != nil {
		t.Logf("stops are not counted: %v", err)
		return
	}
	const packet = 1448 // the payload of an Ethernet frame with TCP's timestamps
	sample(t, cost.Sample{Workload: workload, Values: map[string]float64{"stops/pkt": float64(n) * packet / tcpBytes}})
}

// run makes a tunnel, and sends through it from the near end to the far one.
func (c tcpCell) run(t *testing.T, s *cost.Sample) (err error) {
	if c.ip == 6 {
		if err := needIPv6(); err != nil {
			return err
		}
	}
	tunnel, err := openTunnel(c.shape)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tunnel.close()) }()
	stands := ""
	transfer := iperf3.Transfer{
		Server: tunnel.far.ns, Client: tunnel.near.ns, To: tunnel.far.ip4.IP.String(),
		Streams: c.streams, Duration: tcpTime, Bound: tcpBound,
		Stuck: func() { stands = tunnel.stands() },
	}
	if c.ip == 6 {
		transfer.To = tunnel.far.ip6.IP.String()
	}
	if c.delay != 0 {
		transfer.Duration = tcpDelayed
	}
	if setting.instructions {
		transfer.Bytes = tcpBytes
	}
	before, err := tunnel.tally()
	if err != nil {
		return err
	}
	report, err := iperf3.Run(t.Context(), transfer)
	// On a line of its own, so that it can be found in the output.
	if report.JSON != "" {
		t.Logf("iperf3 of %v:\n%s", c, report.JSON)
	}
	switch {
	case errors.Is(err, iperf3.ErrBound):
		return fmt.Errorf("%w: %s", err, stands)
	case err != nil:
		return fmt.Errorf("%w: %s", err, tunnel.stands())
	case tunnel.broken() != nil:
		return tunnel.broken()
	}
	s.Values["bit/s"], s.Values["retransmits"] = report.BitsPerSecond, float64(report.Retransmits)
	return tunnel.since(before, report.Bytes/1024, s)
}
