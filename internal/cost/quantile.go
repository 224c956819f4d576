package cost

import "math"

// quantileTail is how many values must lie above a quantile. With fewer it is hardly
// more than the largest ones, and another run gives another.
const quantileTail = 5

// Quantile is the smallest of the values, which are sorted, that a share q of them
// does not exceed. It is false where there are too few values to tell.
func Quantile(sorted []float64, q float64) (float64, bool) {
	rank := int(math.Ceil(q * float64(len(sorted)))) // of it, from 1
	if rank < 1 || len(sorted)-rank < quantileTail {
		return 0, false
	}
	return sorted[rank-1], true
}
