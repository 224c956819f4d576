package traffic

import (
	"errors"
	"fmt"
	"maps"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Receiver reads the packets of one queue when it is told to, on the thread
// that calls it, and keeps account of them as a Consumer does. It is not safe
// for concurrent use.
type Receiver struct {
	read     func(buf []byte) (int, error)
	buf      [2048]byte
	sink     sink
	awaited  atomic.Pointer[[]*Arrival] // by nobody
	received uint64
	length   int
	odd      map[int]uint64
}

// NewReceiver takes packets by read, which returns EAGAIN if there is none. header
// is how many bytes of virtio_net_hdr are in front of each packet. If length is not 0,
// the device's filter cuts all packets to so many bytes, and that is all that
// is looked at.
func NewReceiver(link *Link, read func(buf []byte) (int, error), header, length int) *Receiver {
	r := &Receiver{read: read, length: length, odd: make(map[int]uint64)}
	r.sink = sink{ethernet: link.ethernet, header: header, awaited: &r.awaited}
	return r
}

// Read takes one packet. It returns false if there is none.
func (r *Receiver) Read() (bool, error) { return r.ReadBy(r.read) }

// ReadBy takes one packet another way, as Read does.
func (r *Receiver) ReadBy(read func(buf []byte) (int, error)) (bool, error) {
	n, err := read(r.buf[:])
	switch {
	case err == nil:
		r.received++
		switch length := max(n-r.sink.header, 0); {
		case r.length == 0:
			r.sink.take(r.buf[:n])
		case length != r.length:
			r.odd[length]++
		}
		return true, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	}
	return false, fmt.Errorf("read: %w", err)
}

// Received is how many packets have arrived, good and bad.
func (r *Receiver) Received() uint64 { return r.received }

// Odd counts packets by their length in bytes that are not cut to the length
// that they should have.
func (r *Receiver) Odd() map[int]uint64 { return maps.Clone(r.odd) }

// Arrivals is what has arrived so far.
func (r *Receiver) Arrivals() *Arrivals {
	arrivals := &Arrivals{Queues: []uint64{r.received}}
	arrivals.add(&r.sink)
	return arrivals
}

// Wrong is how many packets arrived twice, out of order, altered, or from no
// source.
func (r *Receiver) Wrong() uint64 {
	wrong := r.sink.corrupted + r.sink.foreign
	for _, t := range r.sink.tallies {
		if t != nil {
			wrong += t.duplicated + t.reordered
		}
	}
	return wrong
}
