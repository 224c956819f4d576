package bench

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/profile"
)

// side is what was profiled of a workload in the last round of a variant's first boot.
func (r *Result) side(variant, workload string) (profile.Side, error) {
	side := profile.Side{Name: variant}
	for _, o := range r.Boots {
		if o.Variant != variant || o.Ruler != Instructions || o.Nth != 0 {
			continue
		}
		for _, s := range o.Samples {
			if s.Workload != workload || s.Window == nil {
				continue
			}
			p, err := profile.Read(o.Dir, s.Window.Number)
			if err != nil {
				return side, err
			}
			if s.Window.Where != "" {
				p = p.Only(s.Window.Where)
			}
			side.Profile, side.Unit, side.Per = p, s.Window.Unit, s.Window.Per
		}
	}
	if side.Profile == nil {
		return side, fmt.Errorf("%s has no profile", variant)
	}
	return side, nil
}

// comparison is of where the instructions of a workload go with the variant and with
// what it is compared with.
func (r *Result) comparison(v Variant, workload string) (*profile.Comparison, error) {
	var sides [2]profile.Side
	for i, of := range []Variant{r.baseOf(v), v} {
		var err error
		if sides[i], err = r.side(of.String(), workload); err != nil {
			return nil, err
		}
	}
	return profile.Compare(sides[0], sides[1])
}

// Where tells of each workload and variant where the instructions go, and where those of
// the base do: "" if nothing was profiled.
func (r *Result) Where() string {
	if r.Config.Plugin == nil {
		return ""
	}
	var b strings.Builder
	for _, v := range r.Variants {
		if r.baseOf(v).String() == v.String() {
			continue
		}
		workloads, _ := r.gather(v.String(), Instructions, func(nth int) bool { return nth == 0 })
		for _, workload := range workloads {
			fmt.Fprintf(&b, "%s: %s\n", v, cost.Short(workload))
			if c, err := r.comparison(v, workload); err != nil {
				fmt.Fprintf(&b, "not told by function: %v\n\n", err)
			} else {
				fmt.Fprintf(&b, "%v\n", c)
			}
		}
	}
	return b.String()
}

// mostly names the functions that make the most of a row's difference; "" if that is
// not known.
func (r *Result) mostly(row Row) string {
	i := slices.IndexFunc(r.Variants, func(v Variant) bool { return v.String() == row.Variant })
	if r.Config.Plugin == nil || row.Ruler != Instructions || i < 0 {
		return ""
	}
	c, err := r.comparison(r.Variants[i], row.Workload)
	if err != nil {
		return ""
	}
	diff := profile.Row.Diff
	if strings.HasPrefix(row.Unit, "locked/") {
		diff = profile.Row.LockedDiff
	}
	// What a task does that is neither side's, and interrupts, are of chance.
	functions := slices.DeleteFunc(slices.Clone(c.Different), func(f profile.Row) bool {
		return !slices.Contains([]string{"producer", "consumer", "softirq"}, f.Where) || math.Abs(diff(f)) < 0.05
	})
	slices.SortStableFunc(functions, func(a, b profile.Row) int { return cmp.Compare(math.Abs(diff(b)), math.Abs(diff(a))) })
	var said []string
	for _, f := range functions[:min(3, len(functions))] {
		said = append(said, fmt.Sprintf("%s %+.4g (%s)", f.Function, diff(f), f.Where))
	}
	if said == nil {
		return ""
	}
	return "The most of it: " + strings.Join(said, ", ") + "; where.txt has all."
}
