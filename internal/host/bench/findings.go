package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Findings are what went wrong other than a cost: a txq that stalled, a guest that
// hung, books that do not balance. Each is a sentence.
func (r *Result) Findings() (all []string) {
	for _, o := range r.Boots {
		if o.Failed != "" {
			what, _, _ := strings.Cut(o.Failed, "\n")
			kind := "set-up"
			if o.Stalled {
				kind = "no-stall: broken"
			}
			all = append(all, fmt.Sprintf("%s: %s with the ruler of %s: %s (%s/console.log)", kind, o.Variant, o.Ruler, what, o.Dir))
		}
		for _, s := range o.Samples {
			if s.Stall() {
				all = append(all, fmt.Sprintf("no-stall: broken: %s in %s: %s", o.Variant, s.Workload, s.Failed))
			} else if s.Failed != "" && strings.HasPrefix(s.Workload, "PktgenLedger/") {
				all = append(all, fmt.Sprintf("books: %s in %s: %s", o.Variant, s.Workload, s.Failed))
			}
		}
	}
	return all
}

// Translated says whether time was measured in guests that QEMU translates.
func (r *Result) Translated() bool {
	return slices.ContainsFunc(r.Boots, func(o Outcome) bool { return o.Ruler == Time && strings.HasPrefix(o.Accel, "tcg") })
}

// cannotSay is what the figures say nothing of, as far as it was detected.
func (r *Result) cannotSay() (all []string) {
	for _, ruler := range r.Config.Rulers {
		if ruler == Instructions && r.Uncounted != "" {
			all = append(all, "Not run: instructions were not counted, for which QEMU needs -icount: "+r.Uncounted)
		} else if ruler == Instructions {
			all = append(all, "Instructions were counted on one CPU, by QEMU's -icount: they say nothing of cache misses, of CPUs that wait for each other, of how long an interrupt takes.")
			if r.Config.Unprofiled != "" {
				all = append(all, "Where instructions are executed is not told, nor how many are locked: "+r.Config.Unprofiled+".")
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
