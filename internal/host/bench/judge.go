package bench

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"golang.org/x/perf/benchmath"
)

// Limit is what a variant may cost, as a ratio to the base.
type Limit struct {
	Ruler Ruler
	// Workloads have names that begin so.
	Workloads, Unit string
	// Ratio that it may not exceed or, of a unit that is better higher, fall below.
	Ratio float64
	// Without is the same of a driver that offers IFF_BACKPRESSURE, for a device that
	// is opened without: it should cost nothing.
	Without float64
	// Reason for these.
	Reason string
}

// Limits are those that verdicts go by.
var Limits = []Limit{
	{Instructions, "Path/", "instr/pkt", 1.02, 1.002,
		"what a maintainer lets pass without a word; without the flag, a test and a branch on either side"},
	{Instructions, "Path/", "locked/pkt", 1.10, 1.01,
		"each costs as much as a cache miss where CPUs share the line; without the flag, not one for seven packets: fewer may be the scheduler's"},
	{Instructions, "Path/via=tap/qdisc=fq_codel/full", "dry/wake", 1, 1,
		"until the qdisc has run, a consumer has only what the ring holds at the wake"},
	{Time, "Pktgen/", "rx-pps", 0.95, 0.98, "a generator at full speed stops and wakes as often as can be"},
	{Time, "TCP/", "bit/s", 0.90, 0.98, "the regression that had the series reverted was 0.73"},
	{Time, "Latency/", "p99-us", 1, 1, "less of it under load is what backpressure is for"},
	{Time, "Multicast/", "ms", 1.10, 1.05, "the time in which all senders are done"},
}

func limitOf(ruler Ruler, workload, unit string) *Limit {
	for i := range Limits {
		if l := &Limits[i]; l.Ruler == ruler && l.Unit == unit && strings.HasPrefix(workload, l.Workloads) {
			return l
		}
	}
	return nil
}

// of is the limit of a variant.
func (l *Limit) of(v Variant) float64 {
	if v.OptIn && !v.Backpressure {
		return l.Without
	}
	return l.Ratio
}

// Interval is the middle of some values and where it may be, with a confidence of 95 %
// with the ruler of time. With that of instructions it is all values: there is no
// chance in them, but for what differs from boot to boot.
type Interval struct {
	Center, Lo, Hi float64
	N              int
}

// confidence of an Interval.
const confidence = 0.95

func intervalOf(ruler Ruler, values []float64) Interval {
	values = slices.Clone(values)
	slices.Sort(values)
	if ruler == Instructions {
		return Interval{values[len(values)/2], values[0], values[len(values)-1], len(values)}
	}
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), confidence)
	return Interval{s.Center, s.Lo, s.Hi, len(values)}
}

// Row compares one unit of one workload of a variant with the base.
type Row struct {
	Ruler          Ruler
	Variant        string
	Workload, Unit string
	Base, Value    Interval
	Ratio, Lo, Hi  float64
	Limit          float64 // 0: no verdict
	Outcome        contract.Outcome
	Why            string
}

// series are the values of one variant.
type series struct {
	values  map[string][]float64 // by unit
	failed  []string
	missing string
}

// gather sorts the samples by workload, in the order in which they came.
func (r *Result) gather(variant string, ruler Ruler, nth func(int) bool) (order []string, all map[string]*series) {
	all = make(map[string]*series)
	for _, b := range r.Boots {
		if b.Variant != variant || b.Ruler != ruler || !nth(b.Nth) {
			continue
		}
		for _, s := range b.Samples {
			if s.Workload == "Features" {
				continue
			}
			of := all[s.Workload]
			if of == nil {
				of = &series{values: make(map[string][]float64)}
				all[s.Workload] = of
				order = append(order, s.Workload)
			}
			for unit, v := range s.Values {
				of.values[unit] = append(of.values[unit], v)
			}
			if s.Failed != "" {
				of.failed = append(of.failed, s.Failed)
			}
			of.missing = s.Missing
		}
	}
	return order, all
}

func anyBoot(int) bool { return true }

// beside gathers the series of several variants, and all workloads whose names begin with
// prefix, in the order in which they came.
func (r *Result) beside(variants []Variant, ruler Ruler, prefix string) (order []string, all []map[string]*series) {
	for _, v := range variants {
		names, of := r.gather(v.String(), ruler, anyBoot)
		all = append(all, of)
		for _, name := range names {
			if strings.HasPrefix(name, prefix) && !slices.Contains(order, name) {
				order = append(order, name)
			}
		}
	}
	return order, all
}

// baseOf is the variant that v is compared with: opened alike, if the base offers that.
func (r *Result) baseOf(v Variant) Variant {
	base := r.Variants[0].Label
	if r.Config.Each {
		for i, k := range r.Config.Kernels {
			if i > 0 && k.Label == v.Label {
				base = r.Config.Kernels[i-1].Label
			}
		}
	}
	best := r.Variants[0]
	if v.Label == best.Label {
		return best // what the flag costs that the base has, too
	}
	for _, b := range r.Variants {
		if b.Label == base && (!b.Backpressure || v.Backpressure) {
			best = b
		}
	}
	return best
}

// Rows compares all variants with the base.
func (r *Result) Rows() (rows []Row) {
	for _, ruler := range r.Config.Rulers {
		for _, v := range r.Variants {
			base := r.baseOf(v)
			if base.String() == v.String() {
				continue
			}
			rows = append(rows, r.compare(ruler, base, v)...)
		}
	}
	return rows
}

func (r *Result) compare(ruler Ruler, base, v Variant) (rows []Row) {
	order, all := r.beside([]Variant{base, v}, ruler, "")
	null := r.null(ruler, base)
	for _, workload := range order {
		b, s := all[0][workload], all[1][workload]
		// A boot that ended early did not come to all of them.
		if b == nil {
			b = &series{failed: []string{"it did not come to it"}}
		}
		if s == nil {
			s = &series{failed: []string{"it did not come to it"}}
		}
		units := slices.Sorted(maps.Keys(s.values))
		for _, l := range Limits {
			if l.Ruler == ruler && strings.HasPrefix(workload, l.Workloads) && !slices.Contains(units, l.Unit) && l.Unit != "locked/pkt" {
				units = append(units, l.Unit)
			}
		}
		for _, unit := range units {
			row := Row{Ruler: ruler, Variant: v.String(), Workload: workload, Unit: unit}
			if l := limitOf(ruler, workload, unit); l != nil {
				row.Limit = l.of(v)
			}
			row.fill(b, s, null[workload+" "+unit])
			rows = append(rows, row)
		}
	}
	return rows
}

// null is by how much the base differs from itself, from boot to boot: of each workload
// and unit the largest ratio of two boots' centers, less one.
func (r *Result) null(ruler Ruler, base Variant) map[string]float64 {
	null := make(map[string]float64)
	first := make(map[string]float64)
	for _, b := range r.Boots {
		if b.Variant != base.String() || b.Ruler != ruler {
			continue
		}
		_, all := r.gather(b.Variant, ruler, func(nth int) bool { return nth == b.Nth })
		for workload, s := range all {
			for unit, values := range s.values {
				center, key := intervalOf(Instructions, values).Center, workload+" "+unit
				if f, ok := first[key]; !ok {
					first[key] = center
				} else if f > 0 && center > 0 {
					null[key] = max(null[key], center/f-1, f/center-1)
				}
			}
		}
	}
	return null
}

// fill compares, and decides if there is a limit.
func (row *Row) fill(base, now *series, null float64) {
	decides := row.Limit != 0
	decide := func(o contract.Outcome, why string) {
		if decides {
			row.Outcome = o
		}
		row.Why = why
	}
	b, v := base.values[row.Unit], now.values[row.Unit]
	if decides && row.Unit == "p99-us" && row.lost(base, now, decide) {
		return
	}
	switch {
	case now.missing != "":
		decide(contract.NotRun, now.missing)
		return
	case base.missing != "":
		decide(contract.NotRun, "of the base: "+base.missing)
		return
	case len(v) == 0 && len(now.failed) > 0:
		decide(contract.Undecided, fmt.Sprintf("it failed %s: %s", contract.Count(len(now.failed), "time"), now.failed[0]))
		return
	case len(b) == 0:
		why := "the base has no value"
		if len(base.failed) > 0 {
			why = "the base failed: " + base.failed[0]
		}
		decide(contract.Undecided, why)
		return
	case len(v) == 0:
		decide(contract.Undecided, "it has no value")
		return
	}
	row.Base, row.Value = intervalOf(row.Ruler, b), intervalOf(row.Ruler, v)
	row.Ratio = ratio(row.Value.Center, row.Base.Center)
	row.Lo, row.Hi = ratio(row.Value.Lo, row.Base.Hi), ratio(row.Value.Hi, row.Base.Lo)
	if !decides {
		return
	}
	higher := cost.UnitOf(row.Unit).Higher
	good, bad := row.Hi <= row.Limit, row.Lo > row.Limit
	if higher {
		good, bad = row.Lo >= row.Limit, row.Hi < row.Limit
	}
	said := fmt.Sprintf("%.4g times the base, %s to %s; the limit is %.4g", row.Ratio, bound(row.Lo), bound(row.Hi), row.Limit)
	if row.Base.Center == 0 && row.Value.Center > 0 {
		said = fmt.Sprintf("%.4g, and 0 of the base", row.Value.Center)
	}
	if row.Ruler == Time {
		said += fmt.Sprintf(" (%v)", benchmath.AssumeNothing.Compare(benchmath.NewSample(b, &benchmath.DefaultThresholds), benchmath.NewSample(v, &benchmath.DefaultThresholds)))
	}
	if n := len(base.failed) + len(now.failed); n > 0 {
		said += fmt.Sprintf("; the base failed %d times, it %d times, and those do not count", len(base.failed), len(now.failed))
	}
	switch {
	case len(now.failed) > 0 && len(base.failed) == 0:
		decide(contract.Undecided, said+": "+now.failed[0])
	case (good || bad) && null > math.Abs(row.Ratio/row.Limit-1):
		decide(contract.Undecided, fmt.Sprintf("%s; but the base differs from itself by %.2g %%", said, 100*null))
	case good:
		decide(contract.Kept, said)
	case bad:
		decide(contract.Broken, said)
	default:
		decide(contract.Undecided, said+"; "+row.more())
	}
}

// lost decides where the slowest of 100 probes is one that never arrives: percentiles
// are of those that do.
func (row *Row) lost(base, now *series, decide func(contract.Outcome, string)) bool {
	const slowest = 0.01
	b, v := base.values["lost"], now.values["lost"]
	if len(b) == 0 || len(v) == 0 {
		return false
	}
	was, is := intervalOf(row.Ruler, b), intervalOf(row.Ruler, v)
	if was.Center <= slowest && is.Center <= slowest {
		return false
	}
	const limit = 1.1
	said := fmt.Sprintf("%.0f %% of the probes are lost, and %.0f %% of the base's: of those, p99 says nothing", 100*is.Center, 100*was.Center)
	switch {
	case is.Hi <= limit*max(was.Lo, slowest):
		decide(contract.Kept, said)
	case is.Lo > limit*max(was.Hi, slowest):
		decide(contract.Broken, said)
	default:
		both := Row{Limit: limit, Base: was, Value: is, Ratio: ratio(is.Center, was.Center), Lo: ratio(is.Lo, was.Hi), Hi: ratio(is.Hi, was.Lo)}
		decide(contract.Undecided, said+"; "+both.more())
	}
	return true
}

func bound(x float64) string {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return "anything"
	}
	return fmt.Sprintf("%.4g", x)
}

func ratio(a, b float64) float64 {
	if a == b {
		return 1
	}
	return a / b
}

// enough values for a confidence of 95 % in any interval at all.
const enough = 6

// more says how many values would decide, if they were as these are.
func (row *Row) more() string {
	n := min(row.Base.N, row.Value.N)
	if n < enough {
		return fmt.Sprintf("%d values of each are too few, %d would do", n, enough)
	}
	half, gap := (row.Hi-row.Lo)/2, math.Abs(row.Ratio-row.Limit)
	if gap == 0 || math.IsInf(half, 0) {
		return "it is at the limit, and no number of values decides"
	}
	need := float64(n) * (half / gap) * (half / gap)
	if need > 1000 {
		return "more than 1000 values of each would decide"
	}
	return fmt.Sprintf("some %.0f values of each would decide, instead of %d", max(math.Ceil(need), float64(n+1)), n)
}
