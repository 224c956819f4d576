//go:build !amd64

package order

import (
	"fmt"

	"github.com/ringproof/ringproof/inject/disasm"
)

// Known says whether there are rules for this architecture.
const Known = false

// Of says that nothing is known of any instruction.
func Of(disasm.Point) Effect { return Effect{Ends: Unknown} }

// Next is not known.
func Next(p disasm.Point, _ *Registers, _ func(uint64, []byte) error) (uint64, error) {
	return 0, fmt.Errorf("where %v (%s) goes on is not known", p, p.Text)
}

// Ahead is not known.
func Ahead(disasm.Point) []uint64 { return nil }

// OnStack is not known.
func OnStack(uint64, *Registers) bool { return false }
