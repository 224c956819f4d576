//go:build !amd64

package order

import (
	"errors"

	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
)

// Known is an error, for there are no rules for this architecture yet: that a store may
// become visible later is tried on x86-64 alone.
func Known() error {
	return &kernelfeature.MissingError{Option: "x86-64", What: "rules for the order of stores", Err: errors.ErrUnsupported}
}

// Of is that no instruction is known.
func Of(disasm.Point) Effect { return Effect{Ends: Unknown} }

// Next is not known.
func Next(disasm.Point, *Registers, func(addr uint64, to []byte) error) (uint64, error) {
	return 0, Known()
}

// Ahead is not known.
func Ahead(disasm.Point) []uint64 { return nil }

// OnStack is not known.
func OnStack(uint64, *Registers) bool { return false }
