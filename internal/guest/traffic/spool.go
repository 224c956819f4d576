package traffic

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// spool holds packets that a reader has read and nobody has looked at yet, so
// that as long as there is something to read the reader's thread does nothing
// else: under TCG checking a packet takes a third of the time that reading it
// does, and on another CPU it would take it from the one that the reader has.
//
// The reader puts packets in. It takes them out and checks them when it knows that
// there is nothing left to read, and a few at a time when the spool is full. So
// does whoever needs to know what arrived: a count, a watch for a packet.
type spool struct {
	room    int // bytes that any packet must find
	memory  *spoolMemory
	next    int           // where in memory the next packet goes; the reader's
	in, out atomic.Uint64 // packets put in and taken out so far; out is changed under mu

	mu   sync.Mutex // held while packets are taken out
	sink *sink
}

// spoolMemory has the packets one behind the other, from the start again at the
// end, and says where each of them is.
type spoolMemory struct {
	bytes   []byte
	packets []spooled
}

type spooled struct{ at, length int32 }

const (
	spoolPackets = 1 << 15
	spoolBytes   = 8 << 20
)

// spoolMemories are those that no reader has. They are kept because to touch
// new memory costs a page fault for some twenty packets.
var (
	spoolMemories   []*spoolMemory
	spoolMemoriesMu sync.Mutex
)

func newSpoolMemory() (*spoolMemory, error) {
	spoolMemoriesMu.Lock()
	defer spoolMemoriesMu.Unlock()
	if n := len(spoolMemories); n > 0 {
		m := spoolMemories[n-1]
		spoolMemories = spoolMemories[:n-1]
		return m, nil
	}
	bytes, err := unix.Mmap(-1, 0, spoolBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map %d MiB for a reader's packets: %w", spoolBytes>>20, err)
	}
	return &spoolMemory{bytes: bytes, packets: make([]spooled, spoolPackets)}, nil
}

func (s *spool) init(sink *sink, room int) (err error) {
	s.sink, s.room = sink, room
	s.memory, err = newSpoolMemory()
	return err
}

// close checks what is left. Nothing is put in after that.
func (s *spool) close() {
	s.check()
	spoolMemoriesMu.Lock()
	defer spoolMemoriesMu.Unlock()
	if s.memory != nil {
		spoolMemories = append(spoolMemories, s.memory)
		s.memory = nil
	}
}

// fill reads up to most packets from fd, until want is no longer reading, and
// makes room for another. Its error is that of read(2).
func (s *spool) fill(fd int, most int, want *atomic.Int32) error {
	in := s.in.Load()
	record := in % spoolPackets
	most = min(most, s.vacant(in), spoolPackets-int(record))
	errno := readBatch(uintptr(fd), uintptr(s.room), uintptr(most), &s.memory.bytes[s.next], uintptr(s.next), &s.memory.packets[record], want, &s.in)
	s.makeRoom(in)
	if errno != 0 {
		return errno
	}
	return nil
}

// free is where the next packet is to be put, if read(2) does not do so.
func (s *spool) free() []byte { return s.memory.bytes[s.next : s.next+s.room] }

// put says that a packet of n bytes is in free, and makes room for another.
func (s *spool) put(n int) {
	in := s.in.Load()
	s.memory.packets[in%spoolPackets] = spooled{int32(s.next), int32(n)}
	s.in.Store(in + 1)
	s.makeRoom(in)
}

// makeRoom goes to where the next packet can be put, after all that were put in
// since there were in of them.
func (s *spool) makeRoom(in uint64) {
	now := s.in.Load()
	if now == in {
		return
	}
	last := s.memory.packets[(now-1)%spoolPackets]
	s.next = int(last.at + last.length)
	if s.next+s.room > spoolBytes {
		s.next = 0
	}
	for s.vacant(now) == 0 {
		const few = 64
		s.take(few)
	}
}

// vacant is how many packets there is room for at least, from next on, when in
// have been put in.
func (s *spool) vacant(in uint64) int {
	out := s.out.Load()
	end := spoolBytes
	if in != out {
		if first := int(s.memory.packets[out%spoolPackets].at); s.next <= first {
			end = first
		}
	}
	return min((end-s.next)/s.room, spoolPackets-int(in-out))
}

// check takes out all that there is.
func (s *spool) check() {
	if in := s.in.Load(); in != s.out.Load() {
		s.take(spoolPackets)
	}
}

// take takes out that many packets, or all that there are.
func (s *spool) take(packets uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.out.Load()
	for end := min(s.in.Load(), out+packets); out < end; out++ {
		p := s.memory.packets[out%spoolPackets]
		s.sink.take(s.memory.bytes[p.at:][:p.length])
		s.out.Store(out + 1)
	}
}

// check checks what all readers have spooled so far.
func (c *Consumer) check() {
	for _, r := range c.readers {
		r.spool.check()
	}
}
