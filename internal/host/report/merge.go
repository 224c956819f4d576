package report

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// Merge puts the shards of a run together: what they found out is what the whole run
// would have. A shard that is missing is a fault of the result.
func Merge(dir string, shards ...*Run) (*Run, error) {
	if len(shards) == 0 {
		return nil, errors.New("merge: no runs")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	first := shards[0]
	whole := &Run{
		Dir: dir, Label: first.Label, Kernel: first.Kernel, Contract: first.Contract,
		Command: first.Command, Seed: first.Seed, Started: first.Started, Suite: first.Suite,
	}
	have := make(map[string]*Run) // by shard
	for _, s := range shards {
		shard, err := contract.ParseShard(s.Shard)
		if err != nil || shard.Of == 0 {
			return nil, errors.Join(fmt.Errorf("merge: %s is no shard, but a whole run", s.Dir), err)
		}
		if other := have[s.Shard]; other != nil {
			return nil, fmt.Errorf("merge: %s and %s are both shard %s", other.Dir, s.Dir, s.Shard)
		}
		have[s.Shard] = s
		if err := whole.same(s); err != nil {
			return nil, fmt.Errorf("merge: %s and %s are not of one run: %w", first.Dir, s.Dir, err)
		}
		for _, v := range s.Verdicts {
			// A version that splits the tests in another way leaves some to nobody.
			decided := v.Outcome == contract.Kept || v.Outcome == contract.Broken
			if decided && !shard.Has(v.Test) {
				return nil, fmt.Errorf("merge: %s has decided %s, which is not of shard %s: another version of ringproof has run it", s.Dir, v.Test, s.Shard)
			}
			if strings.HasPrefix(v.Test, "TestFaults") {
				whole.Seed = s.Seed // which makes the sequences
			}
		}
		if s.Started.Before(whole.Started) {
			whole.Started = s.Started
		}
		whole.Seconds += s.Seconds
		whole.Verdicts = append(whole.Verdicts, s.Verdicts...)
		whole.Findings = append(whole.Findings, s.Findings...)
		whole.Baselines = append(whole.Baselines, s.Baselines...)
		if s.Unknown != nil {
			whole.AddUnknown(s.Unknown)
		}
		whole.Tests.Passed += s.Tests.Passed
		whole.Tests.Failed += s.Tests.Failed
		whole.Tests.Skipped += s.Tests.Skipped
		// Whether any check of a promise could run is for all shards to say.
		alone := s.NoneRan()
		for _, f := range s.Errors {
			if !slices.Contains(alone, f) && !slices.Contains(whole.Errors, f) {
				whole.Errors = append(whole.Errors, f)
			}
		}
		for _, f := range s.Noise {
			if !slices.ContainsFunc(whole.Noise, func(known Fault) bool { return known.Title == f.Title }) {
				whole.Noise = append(whole.Noise, f)
			}
		}
	}
	whole.Errors = append(whole.Errors, whole.NoneRan()...)
	for _, missing := range missingShards(have) {
		whole.Errors = append(whole.Errors, Fault{Kind: SetUp, What: missing})
	}
	// In the order in which the whole run has its tests.
	nth := make(map[string]int)
	for _, v := range whole.Verdicts {
		nth[v.Test] = v.Nth
	}
	slices.SortStableFunc(whole.Verdicts, func(a, b contract.Verdict) int { return a.Nth - b.Nth })
	slices.SortStableFunc(whole.Findings, func(a, b Finding) int { return nth[a.Test] - nth[b.Test] })
	return whole, nil
}

// same says in what the shard is of another run than those before, and takes over
// what they do not know: a guest that never booted does not say what it is.
func (r *Run) same(s *Run) error {
	for _, fact := range []struct {
		what string
		have *string
		is   string
	}{
		{"kernel", &r.Release, s.Release}, {"build id", &r.BuildID, s.BuildID}, {"preemption model", &r.Preemption, s.Preemption}, {"architecture", &r.Arch, s.Arch},
		{"accelerator", &r.Accel, s.Accel}, {"reason for it", &r.AccelReason, s.AccelReason},
	} {
		switch {
		case *fact.have == "":
			*fact.have = fact.is
		case fact.is != "" && fact.is != *fact.have && fact.what != "reason for it":
			return fmt.Errorf("the %s is %s and %s", fact.what, *fact.have, fact.is)
		}
	}
	switch {
	case s.Contract != r.Contract:
		return fmt.Errorf("the contract is %s and %s", r.Contract, s.Contract)
	case !slices.Equal(s.Suite, r.Suite):
		return errors.New("they are of different versions of ringproof")
	}
	for _, m := range s.Modules {
		if !slices.Contains(r.Modules, m) {
			r.Modules = append(r.Modules, m)
		}
	}
	return nil
}

// missingShards says which are not there, of those that the others are parts of.
func missingShards(have map[string]*Run) (missing []string) {
	for _, s := range have {
		shard, err := contract.ParseShard(s.Shard)
		if err != nil {
			continue // it has been refused
		}
		for n := 1; n <= shard.Of; n++ {
			shard.Number = n
			what := fmt.Sprintf("shard %s is missing: what its tests would have found out is not known", shard)
			if have[shard.String()] == nil && !slices.Contains(missing, what) {
				missing = append(missing, what)
			}
		}
	}
	slices.Sort(missing)
	return missing
}
