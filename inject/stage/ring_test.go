package stage

import "testing"

// The figures follow from include/linux/ptr_ring.h: consumed slots are given
// back one by one in rings of less than 32, else 16 at once or at the end.
func TestRing(t *testing.T) {
	for _, tt := range []struct{ size, consumed, room int }{
		{1, 0, 1}, {1, 1, 1}, {16, 5, 16},
		{31, 7, 31}, {32, 7, 25}, {32, 15, 17}, {32, 16, 32}, {32, 31, 17}, {32, 32, 32},
		{500, 499, 497}, {500, 500, 500}, {500, 501, 499},
	} {
		r := newRing(tt.size)
		for range tt.consumed {
			r.consume()
		}
		if r.room() != tt.room {
			t.Errorf("a ring of %d, %d consumed: room for %d, want %d", tt.size, tt.consumed, r.room(), tt.room)
		}
	}
}
