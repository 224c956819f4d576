package gotest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// TestEachTestIsExpected holds the table to the tests of vmtests, in their order.
func TestEachTestIsExpected(t *testing.T) {
	text, err := os.ReadFile("../../../vmtests/contract_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile(`func (Test\w+)\(t \*testing\.T\) +{ inGuest`).FindAllSubmatch(text, -1) {
		want = append(want, string(m[1]))
	}
	var have []string
	for _, e := range tests {
		have = append(have, e.test)
	}
	if !slices.Equal(have, want) {
		t.Errorf("the table has %v, but vmtests has %v", have, want)
	}
}

// TestExpect: what is left is told from the tests that go test runs.
func TestExpect(t *testing.T) {
	names := func(args ...string) string {
		var names []string
		for _, e := range expect(args) {
			names = append(names, strings.TrimPrefix(e.test, "Test"))
		}
		return strings.Join(names, " ")
	}
	for _, tt := range []struct {
		args string
		want string
	}{
		{"", "Baseline Kernel Mirror NoqueueDrops NoStall NoTailDrop BackpressureFlag Requeue RequeueSchedules Faults StoreSchedules PairSchedules Schedules ControlSchedules"},
		{"-run=^TestNoStall$", "NoStall"},
		{"-run=No", "NoqueueDrops NoStall NoTailDrop"},
		{"-run=^TestNoStall$/^detach$", ""},
		{"-skip=^TestNoStall$/^detach$|^Test(ControlSchedules|RequeueSchedules|Faults)$|Back", "Baseline Kernel Mirror NoqueueDrops NoStall NoTailDrop Requeue StoreSchedules PairSchedules Schedules"},
		{"-run=(", ""},
	} {
		if got := names(tt.args); got != tt.want {
			t.Errorf("go test %s: %q, want %q", tt.args, got, tt.want)
		}
	}
	all, short := expect(nil), expect([]string{"-short"})
	i := slices.IndexFunc(all, func(e expected) bool { return e.test == "TestSchedules" })
	if all[i].long != 829*time.Second || short[i].long != 47*time.Second || shardOf(all, contract.Shard{Number: 1, Of: 2})[i].long != 829*time.Second/2 {
		t.Errorf("%v, %v in short", all[i], short[i])
	}
}
