package bench

import (
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/host/profile"
)

// side is what was profiled of a workload in the last round of a variant's first boot.
func (r *Result) side(k *profile.Kernel, variant, workload string) (profile.Side, error) {
	side := profile.Side{Name: variant}
	for _, o := range r.Boots {
		if o.Variant != variant || o.Ruler != Instructions || o.Nth != 0 {
			continue
		}
		for _, s := range o.Samples {
			if s.Workload != workload || s.Window == nil {
				continue
			}
			p, err := k.Read(profile.File(o.Dir, s.Window.Number))
			if err != nil {
				return side, err
			}
			side.Profile, side.Unit, side.Per = p, s.Window.Unit, s.Window.Per
		}
	}
	if side.Profile == nil {
		return side, fmt.Errorf("%s has no profile", variant)
	}
	return side, nil
}

// Where tells of each workload and variant where the instructions of a packet go, and
// where those of the base do: "" if nothing was profiled.
func (r *Result) Where() string {
	if r.Config.Plugin == nil {
		return ""
	}
	var b strings.Builder
	for _, v := range r.Variants {
		base := r.baseOf(v)
		if base.String() == v.String() {
			continue
		}
		kernels := [2]*profile.Kernel{}
		var err error
		for i, of := range []Variant{base, v} {
			if kernels[i], err = profile.OpenKernel(of.Kernel.Kernel.Vmlinux); err != nil {
				break
			}
		}
		if err != nil {
			fmt.Fprintf(&b, "%s: not told by function: %v\n\n", v, err)
			continue
		}
		workloads, _ := r.gather(v.String(), Instructions, func(nth int) bool { return nth == 0 })
		for _, workload := range workloads {
			fmt.Fprintf(&b, "%s: %s\n", v, plain(workload))
			text, err := r.whereOf(kernels, base, v, workload)
			if err != nil {
				text = fmt.Sprintf("not told by function: %v\n", err)
			}
			b.WriteString(text + "\n")
		}
	}
	return b.String()
}

func (r *Result) whereOf(kernels [2]*profile.Kernel, base, v Variant, workload string) (string, error) {
	before, err := r.side(kernels[0], base.String(), workload)
	if err != nil {
		return "", err
	}
	now, err := r.side(kernels[1], v.String(), workload)
	if err != nil {
		return "", err
	}
	c, err := profile.Compare(before, now)
	if err != nil {
		return "", err
	}
	return c.String(), nil
}
