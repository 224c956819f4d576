package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/report"
)

// faults are what went wrong with the boots of a kernel, other than a stall.
func (r *Result) faults(k Kernel) (all []report.Fault) {
	for _, o := range r.of(k) {
		if o.Failed != "" {
			all = append(all, report.Fault{Kind: o.Whose, Test: o.Variant + ", " + string(o.Ruler), What: o.Failed + "\nconsole: " + filepath.Join(o.Dir, "console.log")})
		}
	}
	return all
}

// of are the boots of a kernel, with the flag and without.
func (r *Result) of(k Kernel) (boots []Outcome) {
	for _, v := range r.Variants {
		for _, o := range r.Boots {
			if v.Label == k.Label && o.Variant == v.String() {
				boots = append(boots, o)
			}
		}
	}
	return boots
}

// accounts are what is to be said of packets, whatever they cost: a kernel that stalls
// breaks no-stall, and of books that do not balance nothing follows.
func (r *Result) accounts(k Kernel) (verdicts []contract.Verdict) {
	for _, o := range r.of(k) {
		for _, s := range o.Samples {
			v := contract.Verdict{Test: s.Workload, Promise: contract.NoStall, Contract: contract.Auto, Outcome: contract.Broken, Why: s.Failed, Books: s.Books}
			switch {
			case s.Stall():
			case s.Failed != "" && s.Books != nil:
				v.Promise, v.Outcome, v.Why = contract.Cost, contract.Undecided, "the packets cannot be accounted for: "+s.Failed
			default:
				continue
			}
			if o.Variant != k.Label {
				v.Test += "+flag"
			}
			verdicts = append(verdicts, v)
		}
	}
	return verdicts
}

// Findings are what went wrong, each in a sentence.
func (r *Result) Findings() (all []string) {
	for _, k := range r.Config.Kernels {
		for _, v := range r.accounts(k) {
			all = append(all, fmt.Sprintf("%s: %s, %s in %s: %s", v.Promise, v.Outcome, k.Label, cost.Short(v.Test), v.Why))
		}
		for _, f := range r.faults(k) {
			what, _, _ := strings.Cut(f.String(), "\n")
			all = append(all, what)
		}
	}
	return all
}

// Translated says whether time was measured in guests that QEMU translates.
func (r *Result) Translated() bool {
	return slices.ContainsFunc(r.Boots, func(o Outcome) bool { return o.Ruler == Time && strings.HasPrefix(o.Accel, "tcg") })
}

// unprofiled says why instructions are not known by function, of all kernels or of one.
func (r *Result) unprofiled() (all []string) {
	if r.Config.Unprofiled != "" {
		all = append(all, r.Config.Unprofiled)
	}
	for _, o := range r.Boots {
		if why := o.Variant + ": " + o.Unprofiled; o.Unprofiled != "" && !slices.Contains(all, why) {
			all = append(all, why)
		}
	}
	return all
}

// notRun says what did not run of the workloads that no limit is for: of the others a
// verdict says so.
func (r *Result) notRun() (all []string) {
	for _, o := range r.Boots {
		for _, s := range o.Samples {
			if s.Missing == "" || slices.ContainsFunc(Limits, func(l Limit) bool { return l.Ruler == o.Ruler && strings.HasPrefix(s.Workload, l.Workloads) }) {
				continue
			}
			kind, _, _ := strings.Cut(s.Workload, "/")
			if says := fmt.Sprintf("Not run: %s on %s, by the ruler of %s: %s.", kind, o.Variant, o.Ruler, s.Missing); !slices.Contains(all, says) {
				all = append(all, says)
			}
		}
	}
	return all
}

// cannotSay is what the figures say nothing of, as far as it was detected.
func (r *Result) cannotSay() (all []string) {
	all = r.notRun()
	for _, ruler := range r.Config.Rulers {
		if ruler == Instructions && r.Uncounted != "" {
			all = append(all, "Not run: instructions were not counted, for which QEMU needs -icount: "+r.Uncounted)
		} else if ruler == Instructions {
			all = append(all, "Instructions were counted on one CPU, by QEMU's -icount: they say nothing of cache misses, of CPUs that wait for each other, of how long an interrupt takes.")
			for _, why := range r.unprofiled() {
				all = append(all, "Where instructions are executed is not told, nor how many are locked: "+why+".")
			}
		}
	}
	if !slices.ContainsFunc(r.Boots, func(o Outcome) bool { return o.Ruler == Time }) {
		return all
	}
	if r.Translated() {
		all = append(all, "Time was measured in guests that QEMU translates (TCG): ratios mean something, absolute figures do not, and caches and branches cost what they cost the translator.")
	}
	if n := runtime.NumCPU(); n < 4 {
		all = append(all, fmt.Sprintf("This machine has %d CPUs: two threads of pktgen, a consumer and QEMU itself share them.", n))
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		var one float64
		if _, err := fmt.Sscan(string(load), &one); err == nil && one > float64(runtime.NumCPU())+1 {
			all = append(all, fmt.Sprintf("The machine is busy with other things (load %.1f): the intervals of time are wider for it.", one))
		}
	}
	if governors, _ := filepath.Glob("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"); len(governors) > 0 {
		if g, err := os.ReadFile(governors[0]); err == nil && strings.TrimSpace(string(g)) != "performance" {
			all = append(all, fmt.Sprintf("The CPUs' frequency is scaled (governor %s): pairs of boots make up for a part of that.", strings.TrimSpace(string(g))))
		}
	}
	return all
}
