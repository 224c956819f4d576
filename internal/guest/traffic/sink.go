package traffic

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"sync/atomic"
)

// evidenceLimit is how many bad packets each reader keeps.
const evidenceLimit = 4

// sink is what one reader received. It is guarded by the mutex of the reader's
// spool.
type sink struct {
	ethernet bool
	header   int // bytes of virtio_net_hdr in front of each packet
	queue    int
	awaited  *atomic.Pointer[[]*Arrival]
	tallies  [MaxSources]*tally
	current  arrival

	corrupted, foreign uint64
	evidence           []string
}

// plainHeader is the header of a packet that needs no checksum and no
// segmentation (include/uapi/linux/virtio_net.h: struct virtio_net_hdr). What
// may follow, num_buffers, is for whoever put the packet together.
var plainHeader [10]byte

// take records one packet.
func (s *sink) take(b []byte) {
	a := &s.current
	header := b[:min(len(b), s.header)]
	a.parse(b[len(header):], s.ethernet)
	if a.wrong == "" && !bytes.HasPrefix(header, plainHeader[:min(s.header, len(plainHeader))]) {
		a.wrong = "virtio_net_hdr"
	}
	if a.wrong == "" && (a.Seq >= maxSeq || a.pktgen && a.Seq >= maxPktgenSeq) {
		a.wrong = "sequence number"
	}
	if a.wrong != "" {
		s.bad(a, b)
	} else {
		t := s.tallies[a.Source]
		if t == nil {
			t = new(tally)
			s.tallies[a.Source] = t
		}
		t.add(a)
		if awaited := s.awaited.Load(); awaited != nil {
			for _, w := range *awaited {
				w.offer(a.Packet, s.queue)
			}
		}
	}
}

func (s *sink) bad(a *arrival, b []byte) {
	what := "foreign"
	if a.foreign {
		s.foreign++
	} else {
		s.corrupted++
		what = fmt.Sprintf("corrupted, source %d flow %d", a.Source, a.Flow)
	}
	if len(s.evidence) < evidenceLimit {
		s.evidence = append(s.evidence, fmt.Sprintf("queue %d: %s (%s), %d bytes:\n%s", s.queue, what, a.wrong, len(b), hex.Dump(b[:min(len(b), 128)])))
	}
}
