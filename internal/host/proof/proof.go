// Package proof tests the harness. The designs must get the verdicts that review gave
// them, and planted bugs must be caught by the checks that their patches name.
//
// Every kernel is a job. Its outcome is written down as soon as it is known. So an
// interrupted proof does no job twice, and the outcomes of several machines can be put
// together.
package proof

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/gotest"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
)

// Config says what to prove, and where.
type Config struct {
	// Patches is the directory with designs/ and bugs/.
	Patches string
	// Dir keeps the outcomes, a file for each job.
	Dir string
	// Shard of Shards, from 1: only every Shards'th job is done. 0 is all.
	Shard, Shards int
	// Only names jobs to do; none is all.
	Only []string
	// Baseline is how long each way to look for a bug has to find it; 0 is that
	// they are not compared.
	Baseline time.Duration
	// Progress is told what is done.
	Progress io.Writer
}

// Outcome is what one job found out.
type Outcome struct {
	Name string
	// Key names the content of kernel, guest and checks: the same job need
	// not be done again.
	Key string
	// BuildSeconds are what there was to wait for the kernel, which is built
	// while the one before is judged; 0 if it was built before. RunSeconds are
	// of all runs of go test.
	BuildSeconds, RunSeconds float64
	// Promises are the verdicts of the design's runs, or the bug's.
	Promises map[contract.Promise]contract.Outcome
	// Tests are those that found a promise broken, or could not decide it.
	Tests map[contract.Promise][]string
	// Offered and TailDrops count the packets with a qdisc attached.
	Offered, TailDrops uint64
	// CaughtBy is the test that caught the bug, Replay how to see that again,
	// and DetectedSeconds after how long, counted from the start of go test.
	CaughtBy, Replay string
	DetectedSeconds  float64
	// Baselines are what plain stress, a CPU held up at random and the systematic
	// search found of a bug in the same time.
	Baselines []contract.Baseline `json:",omitempty"`
	// Died names the methods during which the guest died of the bug. They have
	// caught it, and no Baseline.
	Died []string `json:",omitempty"`
	// Elsewhere: not by the check that its patch names.
	Elsewhere bool
	// Errors are of the harness, or the guest.
	Errors []string
	// Artifacts are the runs' directories.
	Artifacts []string
}

// designPasses are what a driver's design is judged by: the promises at work in all
// settings, and what only schedules and faults can show.
var designPasses = map[string][][]string{
	"tun": {
		{"-short"},
		{"-run=^TestControlSchedules$/.*/reattach/|^TestRequeueSchedules$|^TestFaults$"},
	},
	"veth": {
		{"-short"},
		{"-run=^TestControlSchedules$/.*/gro-cycle|^TestFaults$"},
	},
	"macvtap": {
		{"-short"},
	},
}

// untried are the promises that no check of a driver decides.
var untried = map[string][]contract.Promise{
	"veth":    {contract.OptInFlag},
	"macvtap": {contract.RequeueIntact, contract.OptInFlag},
}

// job is a kernel to judge.
type job struct {
	name     string
	series   []string
	contract contract.Contract
	design   *Design
	bug      *Bug // nil if it is the design that is judged
}

// called says whether that is the job's name, or its bug's.
func (j job) called(name string) bool { return name == j.name || j.bug != nil && name == j.bug.Name }

// jobs are all there are: those whose kernels have most in common are
// neighbours, which is quicker to build.
func jobs(designs []*Design, patches string) []job {
	var all []job
	for _, d := range designs {
		all = append(all, job{d.Name, d.Series, d.Contract, d, nil})
		for _, b := range d.Bugs {
			all = append(all, job{d.Name + "+" + b.Name, b.series(patches), d.Contract, d, b})
		}
	}
	return all
}

// mine are the jobs to do.
func (cfg *Config) mine(all []job) ([]job, error) {
	for _, name := range cfg.Only {
		if !slices.ContainsFunc(all, func(j job) bool { return j.called(name) }) {
			return nil, fmt.Errorf("there is no design and no bug called %q", name)
		}
	}
	var mine []job
	for i, j := range all {
		if cfg.Shards > 0 && i%cfg.Shards != cfg.Shard-1 {
			continue
		}
		if len(cfg.Only) == 0 || slices.ContainsFunc(cfg.Only, j.called) {
			mine = append(mine, j)
		}
	}
	if len(mine) == 0 {
		return nil, errors.New("nothing to prove: there are more shards than jobs")
	}
	return mine, nil
}

// Run does all jobs that are not done yet, and returns what is known then.
func Run(ctx context.Context, cfg Config) (*Proof, error) {
	designs, err := Read(cfg.Patches)
	if err != nil {
		return nil, err
	}
	mine, err := cfg.mine(jobs(designs, cfg.Patches))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of outcomes: %w", err)
	}
	next := build(ctx, mine[0], cfg.Progress)
	defer func() { next.abandon() }()
	for i, j := range mine {
		fmt.Fprintf(cfg.Progress, "%d of %d: %s\n", i+1, len(mine), j.name)
		k, waited, err := next.wait()
		if err == nil {
			if i+1 < len(mine) {
				next = build(ctx, mine[i+1], cfg.Progress)
			}
			err = cfg.do(ctx, j, k, waited)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", j.name, err)
		}
	}
	p := &Proof{Designs: designs, Outcomes: make(map[string]*Outcome)}
	for _, j := range mine {
		if err := p.read(filepath.Join(cfg.Dir, j.name+".json")); err != nil {
			return nil, err
		}
	}
	p.partial = len(mine) < len(jobs(designs, cfg.Patches))
	return p, nil
}

// do does one job, unless it is done.
func (cfg *Config) do(ctx context.Context, j job, k *kernel.Result, waited time.Duration) error {
	o := &Outcome{Name: j.name, BuildSeconds: waited.Seconds()}
	passes := j.passes()
	image, _, err := initramfs.Build(ctx, initramfs.Options{Package: "./vmtests/guest", Arch: kernel.Wanted(), Modules: k.Modules, Progress: os.Stderr})
	if err != nil {
		return err
	}
	o.Key = key(k.Key, image, passes, j.contract, cfg.Baseline)
	file := filepath.Join(cfg.Dir, j.name+".json")
	if done, err := readOutcome(file); err == nil && done.Key == o.Key {
		fmt.Fprintln(cfg.Progress, "done before")
		return nil
	}
	o.Promises, o.Tests = make(map[contract.Promise]contract.Outcome), make(map[contract.Promise][]string)
	var env []string
	if j.bug != nil {
		// That the bug is caught is all that is asked, not how surely it
		// shows again: a queue that stalls costs a second each time.
		env = []string{"REPLAYS=2"}
	}
	for i, pass := range passes {
		run, err := gotest.Run(ctx, gotest.Config{
			Label: j.name, Name: "proof-" + j.name, Kernel: k, Driver: j.design.Driver, Contract: j.contract, Args: pass, Env: env, Progress: cfg.Progress,
		})
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case run == nil:
			return err
		}
		o.add(run)
		if j.bug == nil {
			continue
		}
		if o.caught(run, j.bug) {
			o.Elsewhere = i > 0
			break
		}
	}
	if j.bug != nil && cfg.Baseline > 0 {
		if err := cfg.compare(ctx, j, k, o); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("keep the outcome: %w", err)
	}
	return nil
}

// compare has each way to look for a bug look for it. What they find is not the
// bug's verdict. A guest that dies of the bug ends the method that was at work, and
// those behind it get another guest.
func (cfg *Config) compare(ctx context.Context, j job, k *kernel.Result, o *Outcome) error {
	env := []string{fmt.Sprintf("BASELINE=%v", cfg.Baseline), "SEED=1"}
	if len(j.design.Broken) > 0 {
		env = append(env, "BASELINE_CONTROL=no")
	}
	for left := methods; len(left) > 0; {
		run, err := gotest.Run(ctx, gotest.Config{
			Label: j.name, Name: "baseline-" + j.name, Kernel: k, Driver: j.design.Driver, Contract: j.contract,
			Args: []string{"-run=^TestBaseline$/^(" + strings.Join(left, "|") + ")$"}, Env: env, Progress: cfg.Progress,
		})
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case run == nil:
			return err
		}
		left = o.compared(run, left)
	}
	return nil
}

// compared adds what a run of the methods found out, and returns those that it did
// not come to because the guest died.
func (o *Outcome) compared(run *report.Run, methods []string) (left []string) {
	o.Baselines = append(o.Baselines, run.Baselines...)
	for i, method := range methods {
		ended := slices.ContainsFunc(run.Baselines, func(b contract.Baseline) bool { return b.Method == method })
		died := slices.ContainsFunc(run.Errors, func(f report.Fault) bool {
			return f.Kind == report.Kernel && strings.HasPrefix(f.Test+"/", "TestBaseline/"+method+"/")
		})
		if died && !ended {
			o.Died = append(o.Died, method)
			return methods[i+1:]
		}
	}
	return nil
}

// passes are the arguments of the runs of go test, one after the other; for a
// bug, until one catches it.
func (j *job) passes() [][]string {
	if j.bug != nil {
		return append([][]string{{"-run=" + anchored(j.bug.Check)}}, designPasses[j.design.Driver]...)
	}
	passes := slices.Clone(designPasses[j.design.Driver])
	// A check says nothing of a bug if it fails without it, too.
	var checks []string
	for _, b := range j.design.Bugs {
		if check := anchored(b.Check); !slices.Contains(checks, check) {
			checks = append(checks, check)
		}
	}
	if len(checks) > 0 {
		passes = append(passes, []string{"-run=" + strings.Join(checks, "|")})
	}
	return passes
}

// anchored is a test's name as a pattern that no other test's begins with.
func anchored(check string) string {
	test, rest, _ := strings.Cut(check, "/")
	return strings.TrimSuffix("^"+test+"$/"+rest, "/")
}

// key names all that the outcome depends on. The image's directory is named by
// what is in it.
func key(kernel, image string, passes [][]string, c contract.Contract, baseline time.Duration) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%v\n%s\n%v", kernel, filepath.Base(filepath.Dir(image)), passes, c, baseline))
	return hex.EncodeToString(sum[:8])
}

// add adds what a run found out.
func (o *Outcome) add(run *report.Run) {
	o.RunSeconds += run.Seconds
	for _, f := range run.Errors {
		o.Errors = append(o.Errors, f.String())
	}
	o.Artifacts = append(o.Artifacts, run.Dir)
	for _, p := range run.Promises() {
		if p.Outcome.Outweighs(o.Promises[p.Promise]) {
			o.Promises[p.Promise] = p.Outcome
		}
	}
	for _, v := range run.Verdicts {
		if v.Promise == contract.NoTailDrop && v.Books != nil {
			o.Offered += uint64(v.Books.Offered)
			o.TailDrops += uint64(v.Books.DropsFor(contract.FullRing))
		}
		if v.Outcome == contract.Broken || v.Outcome == contract.Undecided {
			o.Tests[v.Promise] = append(o.Tests[v.Promise], v.Test)
		}
	}
}

// caught says whether the run saw the bug break what it breaks, and notes how.
func (o *Outcome) caught(run *report.Run, b *Bug) bool {
	i := slices.IndexFunc(run.Verdicts, func(v contract.Verdict) bool {
		return v.Promise == b.Promise && v.Outcome == b.Verdict
	})
	if i < 0 {
		return false
	}
	o.CaughtBy, o.DetectedSeconds = run.Verdicts[i].Test, run.Seconds
	o.Replay = run.ReplayTest(o.CaughtBy)
	for _, f := range run.Findings {
		if f.Promise == b.Promise {
			o.Replay = f.Replay
			break
		}
	}
	return true
}

func readOutcome(file string) (*Outcome, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	o := new(Outcome)
	if err := json.Unmarshal(data, o); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return o, nil
}
