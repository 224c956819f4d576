package bench

import (
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/cost"
)

// TestWindowByTheClock is about windows without a profile.
func TestWindowByTheClock(t *testing.T) {
	const of = `=== ATTR  TestPktgen/x ringproof.cost {"Workload":"Pktgen/x",VALUES"Window":{"Number":1,"Instructions":5000,UNKNOWN"Unit":"instr/pkt","Per":2}}`
	for _, tt := range []struct {
		name, values, unknown string
		want                  float64 // 0: no value
		missing               bool
	}{
		{"the clock tells", `"Values":{"switches/pkt":1},`, ``, 2500, false},
		{"and nothing else", ``, ``, 2500, false},
		{"the clock does not tell", `"Values":{"switches/pkt":1},`, `"IdleUnknown":true,`, 0, false},
		{"nor anything else", ``, `"IdleUnknown":true,`, 0, true},
		{"of one context", ``, `"Where":"producer",`, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []cost.Sample
			o := output{onSample: func(s cost.Sample) { got = append(got, s) }}
			if _, err := o.Write([]byte(strings.NewReplacer("VALUES", tt.values, "UNKNOWN", tt.unknown).Replace(of) + "\n")); err != nil || o.err != nil {
				t.Fatal(err, o.err)
			}
			if len(got) != 1 || got[0].Values["instr/pkt"] != tt.want || (got[0].Missing != "") != tt.missing {
				t.Errorf("got %+v; want %v instructions for each packet, missing: %v", got, tt.want, tt.missing)
			}
		})
	}
}
