package schedule

import (
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/internal/guest/driver"
)

// Functions are those of a target that are held up. What the kernel lacks for it is
// a *kernelfeature.MissingError, or a *disasm.NoFunctionError.
func Functions(t driver.Target) ([]*disasm.Function, error) {
	if t.Available != nil {
		if err := t.Available(); err != nil {
			return nil, err
		}
	}
	return disasm.Reach(t.Root, t.Also...)
}

// Lefts are what a ring of that size can hold when a consumer reads (see
// stage.Setting.Left) and tells apart: nothing, the last packet, the one with which
// half of a full ring has been consumed, and the first of a full ring. Rings of
// all sizes are alike when they are empty.
func Lefts(ring int) []int {
	switch ring {
	case 1:
		return []int{1}
	case 2:
		return []int{0, 1, 2}
	}
	return []int{1, ring - ring/2 + 1, ring}
}
