package order

import "github.com/ringproof/ringproof/inject/disasm"

// InOrder says whether stores become visible in the order in which they are executed.
const InOrder = false

// Of says what the instruction does.
func Of(p disasm.Point) Effect { return ofA64(p) }

// Next is where the CPU goes on after an instruction.
func Next(p disasm.Point, r *Registers, _ func(addr uint64, to []byte) error) (uint64, error) {
	return nextA64(p, r)
}

// Ahead are the instructions that may follow, as far as that can be told without
// registers.
func Ahead(p disasm.Point) []uint64 { return aheadA64(p) }

// stack is how many bytes of kernel stack a task has, and what its address is a multiple
// of (arch/arm64/include/asm/memory.h: THREAD_SIZE).
const stack = 16 << 10

// OnStack says whether the address is on the CPU's stack.
func OnStack(addr uint64, r *Registers) bool { return addr/stack == r.SP/stack }
