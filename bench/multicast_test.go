package bench

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/guest/multicast"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

const (
	multicastGroups = 4
	// Each sender has so many chunks of a packet: with 8 senders 19 MB, some twenty
	// rings full.
	multicastChunks     = 2000
	multicastChunkBytes = 1200
	// multicastBound is some ten times what it takes without KVM on a busy host.
	multicastBound = 30 * time.Second
)

// TestMulticast has several threads send to several IPv6 groups at once. It is what
// a user of 7.2-rc2 ran for minutes that had taken seconds.
func TestMulticast(t *testing.T) {
	if setting.instructions && os.Getenv("WORKLOADS") != "all" {
		t.Skip("its figure is a time: WORKLOADS=all has it all the same")
	}
	for _, senders := range []int{4, 8} {
		name := fmt.Sprintf("senders=%d/groups=%d", senders, multicastGroups)
		t.Run(name, func(t *testing.T) {
			rounds(t, "Multicast/"+name, func(s *cost.Sample) error { return sendToGroups(senders, s) })
		})
	}
}

func sendToGroups(senders int, s *cost.Sample) (err error) {
	if err := needIPv6(); err != nil {
		return err
	}
	tunnel, err := openTunnel(shape{via: "tap", txQueueLen: 500, qdisc: netdev.Qdisc{Kind: netdev.FQCodel}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tunnel.close()) }()
	before, err := tunnel.tally()
	if err != nil {
		return err
	}
	o, err := multicast.Run(multicast.Transfer{
		Near: tunnel.near.ns, Far: tunnel.far.ns,
		NearIfindex: tunnel.near.device.Ifindex(), FarIfindex: tunnel.far.device.Ifindex(),
		Senders: senders, Groups: multicastGroups, Chunks: multicastChunks, ChunkBytes: multicastChunkBytes,
		Bound: multicastBound,
	})
	if err = errors.Join(err, tunnel.broken()); err != nil {
		return err
	}
	chunks := senders * multicastChunks
	if o.Missing > 0 {
		return fmt.Errorf("after %v %d of %d chunks are missing: %s", multicastBound, o.Missing, chunks, tunnel.stands())
	}
	s.Values["ms"], s.Values["resent"] = float64(o.Took)/1e6, float64(o.Sent)/float64(chunks)-1
	return tunnel.since(before, float64(chunks*multicastChunkBytes)/1024, s)
}
