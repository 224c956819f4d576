package bench

import (
	"testing"

	"github.com/ringproof/ringproof/internal/cost"
)

// TestPktgenLedger has the ledger see each packet of TestPktgen's workloads that is freed,
// and reports what does not agree. The ledger leaves programs at the tracepoints that it
// has used, which cost something for each packet. So this file is the last by its name,
// and go test runs its test after all that is measured.
func TestPktgenLedger(t *testing.T) {
	for _, g := range generations() {
		t.Run(g.String(), func(t *testing.T) {
			s := cost.Sample{Workload: "PktgenLedger/" + g.String()}
			ended(&s, g.run(&s, true))
			s.Values, s.Window = nil, nil
			sample(t, s)
		})
	}
}
