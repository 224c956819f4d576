package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/meter"
	"github.com/ringproof/ringproof/internal/host/profile"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// Kernel is one that is measured.
type Kernel struct {
	Label  string
	Kernel *kernel.Result
}

// Variant is a kernel, and how its devices are opened.
type Variant struct {
	Kernel
	// Backpressure: with IFF_BACKPRESSURE.
	Backpressure bool
	// OptIn: its driver offers that.
	OptIn bool
}

// String is how tables call it.
func (v Variant) String() string {
	if v.Backpressure {
		return v.Label + "+flag"
	}
	return v.Label
}

// Config says what to measure.
type Config struct {
	// Kernels: the first is the base that the others are compared with, or each with
	// the one before it.
	Kernels []Kernel
	Each    bool
	Rulers  []Ruler
	// Workloads are those to run, as go test's -run has it; "" is all.
	Workloads string
	// All: the workloads in every combination of what they have, and for longer.
	All bool
	// Boots of each variant with the ruler of time, and Rounds of each workload in a
	// boot; 0 is 2, and 3.
	Boots, Rounds int
	// Image is the initramfs of package bench.
	Image string
	// Plugin tells where instructions are executed; nil if that cannot be, for the
	// reason that Unprofiled is.
	Plugin     *profile.Plugin
	Unprofiled string
	Accel      vm.Accel
	CPUs       int
	// Dir keeps what each boot has given. What is there of the same boot is not done
	// again.
	Dir string
	// Command does the same again.
	Command  string
	Progress io.Writer
}

// Result is what was measured.
type Result struct {
	Config Config `json:"-"`
	// Variants are the columns, the base first.
	Variants []Variant
	Boots    []Outcome
	// Uncounted says why nothing could be measured in instructions; "" if it could.
	Uncounted string
	// Interrupted: not all boots were done.
	Interrupted bool
	Began       time.Time
	Seconds     float64
}

// Outcome is what one boot has given.
type Outcome struct {
	Variant string
	Ruler   Ruler
	// Nth boot of the variant with that ruler, from 0 on; with Instructions that of
	// the base has a second, its null.
	Nth     int
	Samples []cost.Sample
	// Failed says why it did not end as it should, and Whose fault that is.
	Failed string      `json:",omitempty"`
	Whose  report.Kind `json:",omitempty"`
	// Unprofiled says why its instructions are not known by function.
	Unprofiled string `json:",omitempty"`
	// Accel is what ran it, and why.
	Accel string
	// Release and Preemption are the kernel's.
	Release, Preemption string
	Began               time.Time
	Seconds             float64
	Dir                 string
}

// job is a boot to be done.
type job struct {
	variant Variant
	ruler   Ruler
	nth     int
}

// deadline of a boot, in which the usual workloads take two or three minutes. It ends a
// guest that goes on and says nothing.
const deadline = 15 * time.Minute

// Claim makes dir a directory of what is measured. One that holds something else is
// refused: what is measured would replace files in it.
func Claim(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep what is measured: %w", err)
	}
	mark := filepath.Join(dir, "bench.json")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	if len(entries) > 0 {
		return fmt.Errorf("keep what is measured: %s is not empty, and holds nothing that was measured: name another directory", dir)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("keep what is measured: %w", err)
	}
	return os.WriteFile(mark, []byte("{}\n"), 0o666)
}

// DiedError says that a kernel could not be asked for what it offers.
type DiedError struct {
	Kernel, What string
	Whose        report.Kind
}

func (e *DiedError) Error() string { return e.Kernel + ": " + e.What }

// Run boots the kernels in turn: with the ruler of time forth and back, so that a
// machine that becomes slower or quicker meanwhile does so for all of them. An error
// says that nothing could be measured; a *DiedError, that it is for a kernel that cannot
// be booted. What a later boot failed of is in its Outcome.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if len(cfg.Kernels) == 0 {
		return nil, errors.New("which kernels?")
	}
	if cfg.Boots == 0 {
		cfg.Boots = 2
	}
	if cfg.Rounds == 0 {
		cfg.Rounds = 3
	}
	if err := Claim(cfg.Dir); err != nil {
		return nil, err
	}
	r := &Result{Config: cfg, Began: time.Now()}
	defer func() { r.Seconds = time.Since(r.Began).Seconds() }()
	if err := r.discover(ctx); err != nil {
		return r, err
	}
	jobs := r.jobs()
	m := meter.New(cfg.Progress, "measuring", "boots", len(jobs))
	for i := 0; i < len(jobs); i++ {
		j := jobs[i]
		m.Set(i)
		m.Doing(fmt.Sprintf("%s of %v", j.ruler, j.variant))
		if ctx.Err() != nil {
			break
		}
		if j.ruler == Instructions && r.Uncounted != "" {
			continue
		}
		o, err := r.do(ctx, j, cfg.Workloads, func(s cost.Sample) { m.Doing(fmt.Sprintf("%s of %v: %s", j.ruler, j.variant, s.Workload)) })
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			m.End(false)
			return r, err
		}
		if j.ruler == Instructions && len(o.Samples) == 0 && strings.Contains(o.Failed, "icount") {
			r.Uncounted, _, _ = strings.Cut(o.Failed, "\n")
			continue
		}
		r.Boots = append(r.Boots, *o)
		if j.ruler == Instructions && (i+1 == len(jobs) || jobs[i+1].ruler != Instructions) {
			jobs = slices.Insert(jobs, i+1, r.doubtful()...)
		}
	}
	if r.Interrupted = ctx.Err() != nil; !r.Interrupted {
		m.Set(len(jobs))
	}
	m.End(!r.Interrupted)
	return r, nil
}

// discover asks each kernel whether it offers the flag.
func (r *Result) discover(ctx context.Context) error {
	for _, k := range r.Config.Kernels {
		o, err := r.do(ctx, job{Variant{Kernel: k}, Time, -1}, "^TestFeatures$", nil)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if len(o.Samples) == 0 {
			return &DiedError{k.Label, o.Failed, o.Whose}
		}
		optIn := o.Samples[0].Values["opt-in"] == 1
		r.Variants = append(r.Variants, Variant{k, false, optIn})
		if optIn {
			r.Variants = append(r.Variants, Variant{k, true, true})
		}
	}
	return nil
}

// jobs are the boots in their order.
func (r *Result) jobs() (jobs []job) {
	for _, ruler := range r.Config.Rulers {
		switch ruler {
		case Instructions:
			for _, v := range r.Variants {
				jobs = append(jobs, job{v, ruler, 0})
			}
			jobs = append(jobs, job{r.Variants[0], ruler, 1})
		case Time:
			for nth := range r.Config.Boots {
				for i := range r.Variants {
					if nth%2 == 1 {
						i = len(r.Variants) - 1 - i
					}
					jobs = append(jobs, job{r.Variants[i], ruler, nth})
				}
			}
		}
	}
	return jobs
}

// stray is by how much the figures of a boot may differ from those of others by the
// ruler of instructions: one in some tens of boots was seen to, by up to 0.24 %.
const stray = 0.005

// doubtful are boots of the variants that have broken a limit by so little that it may
// be for a boot that strayed.
func (r *Result) doubtful() (jobs []job) {
	for _, v := range r.Variants {
		again := slices.ContainsFunc(r.Boots, func(o Outcome) bool { return o.Variant == v.String() && o.Ruler == Instructions && o.Nth > 0 })
		if !again && slices.ContainsFunc(r.Rows(), func(row Row) bool {
			return row.Variant == v.String() && row.Ruler == Instructions && row.Outcome == contract.Broken && math.Abs(row.Ratio/row.Limit-1) < stray
		}) {
			jobs = append(jobs, job{v, Instructions, 1})
		}
	}
	return jobs
}

// do boots one, or takes what the same boot gave before.
func (r *Result) do(ctx context.Context, j job, workloads string, onSample func(cost.Sample)) (*Outcome, error) {
	cfg := r.Config
	name := fmt.Sprintf("%s-%s-%d", j.ruler, j.variant, j.nth+1)
	if j.nth < 0 {
		name = "features-" + j.variant.Label
	}
	dir := filepath.Join(cfg.Dir, "boots", strings.ReplaceAll(name, "/", "_"))
	key, err := r.key(j, workloads)
	if err != nil {
		return nil, err
	}
	if kept, ok := recall(dir, key); ok {
		return kept, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	o := &Outcome{Variant: j.variant.String(), Ruler: j.ruler, Nth: j.nth, Began: time.Now(), Dir: dir}
	limit := deadline
	if cfg.All {
		limit = 0 // it takes hours
	}
	result, accel, err := Boot{
		Kernel: j.variant.Kernel.Kernel, Backpressure: j.variant.Backpressure, Ruler: j.ruler,
		Workloads: workloads, All: cfg.All, Rounds: cfg.Rounds, Image: cfg.Image, Plugin: cfg.Plugin, Accel: cfg.Accel, CPUs: cfg.CPUs,
		Dir: dir, Deadline: limit, Progress: io.Discard,
		OnUnprofiled: func(why string) { o.Unprofiled = why },
		OnSample: func(s cost.Sample) {
			o.Samples = append(o.Samples, s)
			if onSample != nil {
				onSample(s)
			}
		},
	}.Run(ctx)
	if result == nil {
		return nil, fmt.Errorf("%v: %w", j.variant, err)
	}
	if err != nil {
		o.Failed, o.Whose = err.Error(), report.Whose(result)
		if wrong := (*WrongClockError)(nil); errors.As(err, &wrong) {
			o.Samples, o.Whose = nil, report.SetUp
		}
	}
	if result.Hello != nil {
		o.Release, o.Preemption = result.Hello.Release, result.Hello.Preemption
	}
	o.Accel = fmt.Sprintf("%s: %s", accel.Accel, accel.Reason)
	o.Seconds = time.Since(o.Began).Seconds()
	if ctx.Err() != nil {
		return o, nil
	}
	return o, remember(dir, key, o)
}
