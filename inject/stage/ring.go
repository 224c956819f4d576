package stage

// ring follows the positions in a ptr_ring, for what is free of it cannot be
// seen from outside: the slots of consumed entries are given back late, many
// at once.
type ring struct {
	size, batch int
	// head is where the next entry is consumed, tail the first slot that was
	// not given back yet.
	head, tail int
}

// newRing is a ring that is new or was resized while it was empty.
func newRing(size int) *ring {
	// include/linux/ptr_ring.h: __ptr_ring_set_size, with cache lines of 64
	// bytes.
	r := &ring{size: size, batch: 16}
	if r.batch > size/2 {
		r.batch = 1
	}
	return r
}

// consume follows the consumption of one entry (include/linux/ptr_ring.h:
// __ptr_ring_discard_one).
func (r *ring) consume() {
	r.head++
	if r.head-r.tail >= r.batch || r.head >= r.size {
		r.tail = r.head
	}
	if r.head >= r.size {
		r.head, r.tail = 0, 0
	}
}

// room is how many entries fit into the ring when it is empty.
func (r *ring) room() int { return r.size - (r.head - r.tail) }
