package bench

import (
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/cost"
)

func TestNull(t *testing.T) {
	began := time.Now()
	x := 0
	for i := range 10_000_000 {
		x ^= i
	}
	sample(t, cost.Sample{Workload: "Null", Values: map[string]float64{"ns": float64(time.Since(began).Nanoseconds()), "x": float64(x)}})
}
