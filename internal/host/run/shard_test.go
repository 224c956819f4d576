package run

import (
	"fmt"
	"slices"
	"testing"
)

// TestShards: each test is of one shard, whatever their number.
func TestShards(t *testing.T) {
	suite := []string{"TestA", "TestB", "TestC", "TestD", "TestE"}
	for n := 1; n <= 7; n++ {
		run := make(map[string]int)
		for i := 1; i <= n; i++ {
			others, err := OtherShards(fmt.Sprintf("%d/%d", i, n), suite)
			if err != nil {
				t.Fatal(err)
			}
			for _, test := range suite {
				if !slices.Contains(others, test) {
					run[test]++
				}
			}
		}
		for _, test := range suite {
			if run[test] != 1 {
				t.Errorf("of %d shards, %d run %s", n, run[test], test)
			}
		}
	}
	for _, wrong := range []string{"0/3", "4/3", "1", "1/", "a/b", "1/3x", "-1/3", "1/0", " 1/3"} {
		if others, err := OtherShards(wrong, suite); err == nil {
			t.Errorf("SHARD=%q leaves %v to others", wrong, others)
		}
	}
}
