package traffic

import (
	"sync"
	"sync/atomic"
	"time"
)

// spool holds packets that a reader has read and nobody has looked at yet, so
// that the reader's thread does nothing but read: under TCG checking a packet
// takes a third of the time that reading it does.
//
// The reader puts packets in. Whoever needs to know what arrived takes them
// out and checks them: a report, a watch for a packet, the consumer's sweeper
// now and then, and the reader itself when the spool is full.
type spool struct {
	room    int    // bytes that any packet must find
	buf     []byte // packets one behind the other, from the start again when full
	next    int    // where in buf the next one goes; the reader's
	packets [spoolPackets]spooled

	in  atomic.Uint64 // packets put in so far, by the reader only
	out atomic.Uint64 // packets taken out so far; changed under mu

	mu   sync.Mutex // held while packets are taken out
	sink *sink
}

// spooled says where in the buffer a packet is.
type spooled struct{ at, length int32 }

const (
	spoolPackets = 1024 // a power of two
	spoolBytes   = 128 << 10
)

func (s *spool) init(sink *sink, room int) {
	s.sink, s.room = sink, room
	s.buf = make([]byte, spoolBytes+room)
}

// free is where the next packet is to be read to.
func (s *spool) free() []byte { return s.buf[s.next : s.next+s.room] }

// put says that a packet of n bytes was read to free.
func (s *spool) put(n int) {
	in := s.in.Load()
	s.packets[in%spoolPackets] = spooled{int32(s.next), int32(n)}
	s.in.Store(in + 1)
	s.next += n
	switch {
	case s.next > spoolBytes:
		s.check()
		s.next = 0
	case in+1-s.out.Load() == spoolPackets:
		s.check()
	}
}

// check takes out all that there is.
func (s *spool) check() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for out, in := s.out.Load(), s.in.Load(); out < in; out++ {
		p := s.packets[out%spoolPackets]
		s.sink.take(s.buf[p.at:][:p.length])
		s.out.Store(out + 1)
	}
}

// sweepInterval is short enough for a spool not to fill up at the rates that
// are reached under TCG, some 200 packets a millisecond.
const sweepInterval = time.Millisecond

// sweep checks what the readers have spooled, until the consumer is stopped.
func (c *Consumer) sweep() {
	for c.want.Load() != stopping {
		time.Sleep(sweepInterval)
		c.check()
	}
}

// check checks what all readers have spooled so far.
func (c *Consumer) check() {
	for _, r := range c.readers {
		if r.spool.in.Load() != r.spool.out.Load() {
			r.spool.check()
		}
	}
}
