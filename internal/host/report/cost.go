package report

import (
	"fmt"

	"github.com/ringproof/ringproof/internal/contract"
)

// AddCost adds to a run of the checks what was measured of the same kernel's cost.
func (r *Run) AddCost(measured *Run) error {
	if measured.Cost == "" {
		return fmt.Errorf("%s is no kernel that ringproof bench has measured", measured.Dir)
	}
	r.Cost = measured.Cost
	for _, v := range measured.Verdicts {
		if v.Promise == contract.Cost {
			r.Verdicts = append(r.Verdicts, v)
		}
	}
	return nil
}
