package report

import (
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
)

// shardsOf takes a run apart as SHARD=1/n ... n/n would have run it.
func shardsOf(r *Run, n int) []*Run {
	shards := make([]*Run, n)
	for i := range shards {
		s := *r
		s.Shard = string(rune('1'+i)) + "/" + string(rune('0'+n))
		s.Baselines = nil
		s.Verdicts, s.Findings, s.Errors, s.Tests, s.Seconds = nil, nil, nil, Tests{}, r.Seconds/float64(n)
		shards[i] = &s
	}
	of := func(test string) *Run {
		return shards[slices.IndexFunc(shards, func(s *Run) bool {
			shard, err := contract.ParseShard(s.Shard)
			return err == nil && shard.Has(test)
		})]
	}
	for _, v := range r.Verdicts {
		s := of(v.Test)
		s.Verdicts = append(s.Verdicts, v)
	}
	for _, f := range r.Findings {
		s := of(f.Test)
		s.Findings = append(s.Findings, f)
	}
	for _, s := range shards {
		s.Errors = s.NoneRan()
	}
	shards[0].Tests, shards[0].Baselines = r.Tests, r.Baselines
	return shards
}

// whole is a run of which shards can be made.
func whole() *Run {
	r := sample()
	r.Suite = []string{"TestNoTailDrop", "TestNoqueueDrops", "TestRequeue", "TestFaults", "TestPairSchedules", "TestSchedules"}
	// The promise that could not be checked in one shard is kept in another.
	r.Verdicts = append(r.Verdicts, contract.Verdict{Test: "TestSchedules/trim", Promise: contract.RequeueIntact, Contract: contract.Lossless, Outcome: contract.Kept})
	nth := make(map[string]int)
	for i := range r.Verdicts {
		r.Verdicts[i].Nth = i + 1
		nth[r.Verdicts[i].Test] = i + 1
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return nth[a.Test] - nth[b.Test] })
	r.Shard, r.Errors, r.BuildID = "", nil, "ab"
	r.Cost, r.Measured = "", nil // which is measured at other times
	return r
}

// TestMerge: shards that are put together are the run that was not split, in
// whatever order they come.
func TestMerge(t *testing.T) {
	for n := 1; n <= 4; n++ {
		r := whole()
		shards := shardsOf(r, n)
		slices.Reverse(shards)
		merged, err := Merge(r.Dir, shards...)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range Formats() {
			want, err := r.Format(form)
			if err != nil {
				t.Fatal(err)
			}
			got, err := merged.Format(form)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s of %d shards:\n%s\nand of the whole run:\n%s", form, n, got, want)
			}
		}
	}
}

// TestMergeOfWhatDoesNotFit: what is missing is a fault, and what is not of one run
// is refused.
func TestMergeOfWhatDoesNotFit(t *testing.T) {
	merged, err := Merge("/merged", shardsOf(whole(), 3)[:2]...)
	if err != nil {
		t.Fatal(err)
	}
	if !merged.Has(SetUp) || !strings.Contains(merged.Text(), "fault of the set-up: shard 3/3 is missing") {
		t.Errorf("a shard is missing, and nothing says so:\n%s", merged.Text())
	}
	for name, change := range map[string]func(*Run){
		"kernel is 7.3.0-rc7 and 7.2":   func(r *Run) { r.Release = "7.2" },
		"contract is auto and lossless": func(r *Run) { r.Contract = contract.Lossless },
		"different versions":            func(r *Run) { r.Suite = r.Suite[1:] },
		"accelerator is tcg and kvm":    func(r *Run) { r.Accel = "kvm" },
		"both shard 1/2":                func(r *Run) { r.Shard = "1/2" },
		"is no shard":                   func(r *Run) { r.Shard = "" },
		`"2 of 2" is no shard`:          func(r *Run) { r.Shard = "2 of 2" },
		"build id is ab and cd":         func(r *Run) { r.BuildID = "cd" },
		"which is not of shard 2/2: another version": func(r *Run) {
			r.Verdicts = whole().Verdicts
		},
		"preemption model is PREEMPT_LA": func(r *Run) { r.Preemption = "PREEMPT_RT" },
	} {
		shards := shardsOf(whole(), 2)
		change(shards[1])
		if _, err := Merge("/merged", shards...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want an error that says %q", err, name)
		}
	}
	shards := shardsOf(whole(), 2)
	shards[0].Release, shards[0].Preemption, shards[0].Errors = "", "", []Fault{{Kind: Kernel, What: "it does not boot"}}
	if merged, err := Merge("/merged", shards...); err != nil || merged.Release != "7.3.0-rc7" || len(merged.Errors) != 1 {
		t.Errorf("a guest that did not boot: %v, %v", merged, err)
	}
	if _, err := Merge("/merged"); err == nil {
		t.Error("nothing is merged")
	}
}
