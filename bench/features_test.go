package bench

import (
	"errors"
	"testing"

	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
)

// TestFeatures says what the kernel offers.
func TestFeatures(t *testing.T) {
	s := cost.Sample{Workload: "Features", Values: map[string]float64{"opt-in": 0}}
	features, err := tuntap.Features()
	if missing := (*kernelfeature.MissingError)(nil); errors.As(err, &missing) {
		s.Missing = missing.Error()
	} else if err != nil {
		t.Fatal(err)
	}
	if features&tuntap.IFFBackpressure != 0 {
		s.Values["opt-in"] = 1
	}
	sample(t, s)
}
