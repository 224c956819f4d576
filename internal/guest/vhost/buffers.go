package vhost

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Size is the number of buffers.
func (q *Queue) Size() int { return q.cfg.Size }

// Free is how many of them can be offered.
func (q *Queue) Free() int { return len(q.free) }

// Flaw is what can be wrong with a buffer that is offered.
type Flaw int

const (
	// Sound: nothing.
	Sound Flaw = iota
	// Short: it holds the header and hardly more. Without Mergeable the worker
	// frees a packet that does not fit (drivers/vhost/net.c: handle_rx, "On
	// overrun").
	Short
	// Unmapped: no memory that the worker was told of. It keeps the packet
	// until the next kick (drivers/vhost/vhost.c: translate_desc).
	Unmapped
	// Absent: there is no memory. The worker frees the packet
	// (drivers/net/tun.c: tun_do_read).
	Absent
)

// shortBytes is the length of a Short buffer.
const shortBytes = HeaderBytes + 20

// Offer makes up to n free buffers available to the worker, and kicks it if it
// wants that.
func (q *Queue) Offer(n int) {
	if q.OfferUnkicked(n, Sound) {
		q.Kick()
	}
}

// OfferUnkicked does so without a kick, and says whether the worker wants one.
// A buffer with a flaw stays with the worker, which comes back to it with each
// packet, until Stop or Replace.
func (q *Queue) OfferUnkicked(n int, flaw Flaw) (wantsKick bool) {
	before := q.avail
	for range min(n, len(q.free)) {
		id := q.free[0]
		q.free = q.free[1:]
		q.offered[id] = true
		d := desc{addr: address(&q.buffer(id)[0]), length: uint32(q.bytes), flags: descWrite}
		switch flaw {
		case Short:
			d.length = shortBytes
		case Unmapped:
			d.addr = 0
		case Absent:
			d.addr = q.absent
		}
		q.vring.desc[id] = d
		q.vring.heads[int(q.avail)%q.cfg.Size] = id
		q.avail++
	}
	if q.avail == before {
		return false
	}
	setHalves(q.vring.avail, q.flags, q.avail)
	if q.cfg.EventIdx {
		event := uint16(atomic.LoadUint32(q.vring.availEvent))
		// include/uapi/linux/virtio_ring.h: vring_need_event
		return q.avail-event-1 < q.avail-before
	}
	flags, _ := halves(q.vring.used)
	return flags&usedNoNotify == 0
}

// Kick tells the worker that there are buffers.
func (q *Queue) Kick() { unix.Write(q.kick, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (q *Queue) buffer(id uint16) []byte { return q.buffers[int(id)*q.bytes:][:q.bytes] }

// Read copies the next packet that has arrived, its header in front, and frees
// its buffers. The error is EAGAIN if there is none, and EBADMSG if what the
// worker says about it makes no sense.
func (q *Queue) Read(buf []byte) (int, error) {
	_, idx := halves(q.vring.used)
	waiting := idx - q.used
	if waiting == 0 {
		return 0, unix.EAGAIN
	}
	buffers, n := uint16(1), 0
	for i := uint16(0); i < buffers; i++ {
		elem := q.vring.elems[int(q.used)%q.cfg.Size]
		if elem.id >= uint32(q.cfg.Size) || !q.offered[elem.id] || elem.length > uint32(q.bytes) || elem.length < HeaderBytes && i == 0 {
			return n, unix.EBADMSG
		}
		id := uint16(elem.id)
		part := q.buffer(id)[:elem.length]
		if q.cfg.Mergeable && i == 0 {
			if buffers = binary.LittleEndian.Uint16(part[10:]); buffers == 0 || buffers > waiting {
				return n, unix.EBADMSG
			}
		}
		n += copy(buf[n:], part)
		q.offered[id] = false
		q.free = append(q.free, id)
		q.used++
	}
	return n, nil
}

// AskForCall offers all free buffers and asks for a call when a packet arrives;
// false means that one has arrived already. Polled, it asks for none.
func (q *Queue) AskForCall() bool {
	q.Offer(len(q.free))
	if !q.cfg.Polled {
		q.wantCalls(true)
	}
	_, idx := halves(q.vring.used)
	return idx == q.used
}

// RefuseCalls ends what AskForCall has asked for.
func (q *Queue) RefuseCalls() {
	q.wantCalls(false)
	var count [8]byte
	unix.Read(q.call, count[:])
}

func (q *Queue) wantCalls(want bool) {
	if q.cfg.EventIdx {
		// The index before the next one is half of all indexes away.
		event := q.used - 1
		if want {
			event = q.used
		}
		atomic.StoreUint32(q.vring.usedEvent, uint32(event))
		return
	}
	q.flags |= availNoInterrupt
	if want {
		q.flags &^= availNoInterrupt
	}
	setHalves(q.vring.avail, q.flags, q.avail)
}

// flushTimeout is for how long Flush waits for a queue that keeps moving.
const flushTimeout = 5 * time.Second

// Flush waits until the worker has nothing in hand and everything that arrived
// has been read, by the one who reads all the time and offers all buffers
// again. The producers must have stopped.
func (q *Queue) Flush() error {
	indexes := func() (both [2]uint16) {
		_, both[0] = halves(q.vring.avail)
		_, both[1] = halves(q.vring.used)
		return both
	}
	for deadline := time.Now().Add(flushTimeout); time.Now().Before(deadline); {
		before := indexes()
		if err := q.Settle(); err != nil {
			return err
		}
		// With all buffers at hand the worker stops at nothing: had it had a
		// packet, that would have taken one meanwhile.
		if before == indexes() && int(before[0]-before[1]) == q.cfg.Size {
			return nil
		}
		time.Sleep(100 * time.Microsecond)
	}
	return fmt.Errorf("the worker of vhost-net is still at work after %v", flushTimeout)
}
