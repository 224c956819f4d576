package bench

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/report"
	"golang.org/x/perf/benchfmt"
)

// Write writes, into the directory of the configuration,
//
//	bench.txt    Text
//	bench.json   the Result
//	where.txt    Where
//	LABEL/       what was found out of a kernel, as of a run of the checks: see Runs
//	NAME.bench   for each variant, all samples as Go benchmark lines: benchstat
//	             reads them (https://golang.org/design/14313-benchmark-format)
func (r *Result) Write() error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	files := map[string][]byte{"bench.json": append(text, '\n'), "bench.txt": []byte(r.Text())}
	if where := r.Where(); where != "" {
		files["where.txt"] = []byte(where)
	}
	for _, v := range r.Variants {
		if files[strings.ReplaceAll(v.String(), "/", "_")+".bench"], err = r.lines(v); err != nil {
			return err
		}
	}
	if err := forget(r.Config.Dir); err != nil {
		return fmt.Errorf("keep what was measured: %w", err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(r.Config.Dir, name), data, 0o666); err != nil {
			return fmt.Errorf("keep what was measured: %w", err)
		}
	}
	for _, run := range r.Runs() {
		if err := os.MkdirAll(run.Dir, 0o777); err != nil {
			return fmt.Errorf("keep what was measured: %w", err)
		}
		if err := run.WriteAll(); err != nil {
			return err
		}
	}
	return nil
}

// forget removes from a directory of ours what was written of other kernels that were
// compared before. Their boots stay.
func forget(dir string) error {
	for _, pattern := range []string{"*.bench", "where.txt", filepath.Join("*", "verdict.*")} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	return nil
}

// Runs are what was found out of each kernel, as of a run of the checks; of the base, if
// there is something.
func (r *Result) Runs() (runs []*report.Run) {
	for i, k := range r.Config.Kernels {
		if run := r.run(k); i > 0 || len(run.Verdicts) > 0 || len(run.Errors) > 0 {
			runs = append(runs, run)
		}
	}
	return runs
}

func (r *Result) run(k Kernel) *report.Run {
	run := &report.Run{
		Dir: filepath.Join(r.Config.Dir, strings.ReplaceAll(k.Label, "/", "_")), Label: k.Label, Kernel: k.Kernel.Image,
		Contract: contract.Auto, Command: r.Config.Command, Cost: r.Tables(), Measured: r.measured(k), Started: r.Began, Seconds: r.Seconds,
		Verdicts: r.accounts(k), Errors: r.faults(k),
	}
	for _, o := range r.of(k) {
		run.Release, run.Preemption = o.Release, o.Preemption
		run.Accel, run.AccelReason, _ = strings.Cut(o.Accel, ": ")
	}
	for _, row := range r.Rows() {
		if row.Outcome == "" || row.Variant != k.Label && row.Variant != k.Label+"+flag" {
			continue
		}
		test := row.Workload
		if row.Variant != k.Label {
			test += "+flag"
		}
		run.Verdicts = append(run.Verdicts, contract.Verdict{
			Test: test, Promise: contract.Cost, Contract: contract.Auto, Outcome: row.Outcome, Why: row.Unit + ": " + row.Why,
		})
	}
	for _, v := range run.Verdicts {
		switch v.Outcome {
		case contract.Kept:
			run.Tests.Passed++
		case contract.NotRun:
			run.Tests.Skipped++
		default:
			run.Tests.Failed++
		}
	}
	return run
}

// measured is what was measured of a kernel, and of all others beside it.
func (r *Result) measured(k Kernel) *report.Measured {
	m := new(report.Measured)
	for _, v := range r.Variants {
		named := report.Variant{Name: v.String(), Backpressure: v.Backpressure, Own: v.Label == k.Label}
		if base := r.baseOf(v).String(); base != named.Name {
			named.Base = base
		}
		m.Variants = append(m.Variants, named)
		for _, ruler := range r.Config.Rulers {
			order, all := r.gather(named.Name, ruler, anyBoot)
			for _, workload := range order {
				s := all[workload]
				value := report.Value{Variant: named.Name, Workload: workload, Ruler: string(ruler)}
				switch {
				case len(s.values) > 0:
				case s.missing != "":
					value.Lacks = s.missing
				case len(s.failed) > 0:
					value.Lacks = "failed: " + s.failed[0]
				default:
					value.Lacks = "it has no value"
				}
				if value.Lacks != "" {
					m.Values = append(m.Values, value)
				}
				for _, unit := range slices.Sorted(maps.Keys(s.values)) {
					x := intervalOf(ruler, s.values[unit])
					value := value
					value.Unit, value.Center, value.N = unit, x.Center, x.N
					if !math.IsInf(x.Lo, 0) && !math.IsInf(x.Hi, 0) {
						value.Lo, value.Hi = &x.Lo, &x.Hi
					}
					if l := limitOf(ruler, workload, unit); l != nil && named.Base != "" {
						value.Limit = l.of(v)
					}
					m.Values = append(m.Values, value)
				}
			}
		}
	}
	return m
}

// lines are a variant's samples as Go benchmark lines.
func (r *Result) lines(v Variant) ([]byte, error) {
	var b strings.Builder
	w := benchfmt.NewWriter(&b)
	for _, u := range cost.Units {
		better := "lower"
		if u.Higher {
			better = "higher"
		}
		if err := w.Write(&benchfmt.UnitMetadata{UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: u.Name, Key: "better"}, OrigUnit: u.Name, Value: better}); err != nil {
			return nil, err
		}
	}
	for _, o := range r.Boots {
		if o.Variant != v.String() {
			continue
		}
		for _, s := range o.Samples {
			if len(s.Values) == 0 || s.Workload == "Features" {
				continue
			}
			result := &benchfmt.Result{Name: benchfmt.Name(s.Workload), Iters: 1}
			result.SetConfig("kernel", v.Label)
			result.SetConfig("ruler", string(o.Ruler))
			for _, unit := range slices.Sorted(maps.Keys(s.Values)) {
				result.Values = append(result.Values, benchfmt.Value{Value: s.Values[unit], Unit: unit})
			}
			if err := w.Write(result); err != nil {
				return nil, err
			}
		}
	}
	return []byte(b.String()), nil
}
