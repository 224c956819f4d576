package report

import (
	"fmt"
	"slices"

	"github.com/ringproof/ringproof/internal/contract"
)

// Measured is what ringproof bench has measured of a kernel, and of those beside it.
type Measured struct {
	// Variants are the base, then those that were measured beside it.
	Variants []Variant `json:"variants"`
	// Values are in the order of the variants, then in that of the workloads.
	Values []Value `json:"values"`
}

// Variant is a kernel, and how its devices are opened.
type Variant struct {
	Name string `json:"name"`
	// Base is the variant that it is compared with; "" of the base itself.
	Base string `json:"base,omitempty"`
	// Backpressure: with IFF_BACKPRESSURE.
	Backpressure bool `json:"backpressure,omitempty"`
	// Own: of the run's own kernel, and not of one beside it.
	Own bool `json:"own,omitempty"`
}

// Value is one unit of one workload of one variant.
type Value struct {
	Variant string `json:"variant"`
	// Workload is its name as benchmarks have names, without "Benchmark".
	Workload string `json:"workload"`
	// Ruler is "instructions" or "time".
	Ruler string `json:"ruler"`
	// Unit is one of those of package cost; "" where the workload has no values.
	Unit string `json:"unit,omitempty"`
	// Center is the middle of N values, which are from Lo to Hi: of instructions those
	// are all values, of time there is a confidence of 95 %. They are nil if there are
	// too few values to tell.
	Center float64  `json:"center"`
	Lo     *float64 `json:"lo,omitempty"`
	Hi     *float64 `json:"hi,omitempty"`
	N      int      `json:"n"`
	// Limit of the ratio to the base; 0 if it has none.
	Limit float64 `json:"limit,omitempty"`
	// Lacks says why there is no value: what failed, or what is missing.
	Lacks string `json:"lacks,omitempty"`
}

// find returns a value, or nil.
func (m *Measured) find(variant, workload, ruler, unit string) *Value {
	for i := range m.Values {
		if v := &m.Values[i]; v.Variant == variant && v.Workload == workload && v.Ruler == ruler && v.Unit == unit {
			return v
		}
	}
	return nil
}

// variant returns the one of that name, or nil.
func (m *Measured) variant(name string) *Variant {
	if i := slices.IndexFunc(m.Variants, func(v Variant) bool { return v.Name == name }); i >= 0 {
		return &m.Variants[i]
	}
	return nil
}

// own is the run's own kernel, opened in the same way if it can be; nil if it is not
// there.
func (m *Measured) own(backpressure bool) (own *Variant) {
	for i := range m.Variants {
		if v := &m.Variants[i]; v.Own && (!v.Backpressure || backpressure) {
			own = v
		}
	}
	return own
}

// span is where a value may be.
type span struct{ lo, center, hi float64 }

// span is that of a value; it is the zero span if that is not known.
func (v *Value) span() span {
	if v == nil || v.Lo == nil || v.Hi == nil {
		return span{}
	}
	return span{*v.Lo, v.Center, *v.Hi}
}

// known is whether ratios can be made of it.
func (s span) known() bool { return s.lo > 0 }

// over is the ratio of two.
func (s span) over(base span) span {
	if !s.known() || !base.known() {
		return span{}
	}
	return span{s.lo / base.hi, s.center / base.center, s.hi / base.lo}
}

// AddCost adds to a run of the checks what was measured of the same kernel's cost.
func (r *Run) AddCost(measured *Run) error {
	if measured.Cost == "" {
		return fmt.Errorf("%s is no kernel that ringproof bench has measured", measured.Dir)
	}
	r.Cost, r.Measured = measured.Cost, measured.Measured
	for _, v := range measured.Verdicts {
		if v.Promise == contract.Cost {
			r.Verdicts = append(r.Verdicts, v)
		}
	}
	return nil
}
