package contract

import (
	"fmt"
	"testing"
)

// TestEachTestHasOneShard: whatever their number is, the shards have all tests
// between them, each once, and about as many each.
func TestEachTestHasOneShard(t *testing.T) {
	const tests = 600
	for of := 1; of <= 8; of++ {
		held := make([]int, of)
		for i := range tests {
			name := fmt.Sprintf("TestSchedules/tun_net_xmit/drain-%d/ring=%d/fq_codel", i, i%7)
			holders := 0
			for n := range of {
				if (Shard{n + 1, of}).Has(name) {
					holders++
					held[n]++
				}
			}
			if holders != 1 {
				t.Errorf("%s belongs to %d of %d shards", name, holders, of)
			}
		}
		for n, tests1 := range held {
			if tests1 < tests/of/2 || tests1 > 2*tests/of {
				t.Errorf("shard %d/%d has %d of %d tests", n+1, of, tests1, tests)
			}
		}
	}
	if !(Shard{}).Has("TestA") {
		t.Error("no shard is not all tests")
	}
}

func TestParseShard(t *testing.T) {
	for _, text := range []string{"", "1/1", "2/3", "12/12"} {
		if s, err := ParseShard(text); err != nil || s.String() != text {
			t.Errorf("%q: %q, %v", text, s, err)
		}
	}
	for _, text := range []string{"0/3", "4/3", "1", "1/", "/3", "1/3x", "-1/3", "1/0", " 1/3", "01/3"} {
		if s, err := ParseShard(text); err == nil {
			t.Errorf("%q is %v", text, s)
		}
	}
}
