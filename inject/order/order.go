// Package order says in which orders a CPU may make its stores visible, and execute its
// loads. It takes an instruction apart as far as that matters: what it reads, what it
// writes, and what it keeps apart.
//
// The rules are one table (Rules). What depends on the architecture is in files of
// its own (order_amd64.go).
package order

import (
	"fmt"

	"github.com/ringproof/ringproof/inject/disasm"
)

// Registers are a CPU's, just before it executes an instruction.
type Registers struct {
	PC, SP, Flags uint64
	// Top is what is on top of the stack.
	Top uint64
	// GPR are the general registers, as instructions number them.
	GPR [32]uint64
}

// None is no register.
const None = 0xff

// Operand is how an instruction computes the address of what it reads or writes.
type Operand struct {
	Base, Index, Scale uint8 // registers, or None
	// Extend is what is taken of the index.
	Extend Extend
	Bytes  uint8
	Disp   int64
}

// Extend is what is taken of a register.
type Extend = uint8

// All of it, or the lower half, with the sign or without.
const (
	Whole Extend = iota
	Unsigned32
	Signed32
)

// Address is where the operand is.
func (o Operand) Address(r *Registers) uint64 {
	addr := uint64(o.Disp)
	if o.Base != None {
		addr += r.GPR[o.Base]
	}
	if o.Index != None {
		index := r.GPR[o.Index]
		switch o.Extend {
		case Unsigned32:
			index = uint64(uint32(index))
		case Signed32:
			index = uint64(int32(index))
		}
		addr += index * uint64(o.Scale)
	}
	return addr
}

// Effect is what an instruction does, as far as order is concerned.
type Effect struct {
	// Operand is what it reads or writes in memory, if it does either. What it
	// pushes and pops is left out: nobody else reads that.
	Operand       Operand
	Reads, Writes bool
	// Private: the operand is the CPU's own, or on the stack of what it executes.
	Private bool
	// Ends is the rule by which no store before it becomes visible after it; nil if
	// there is none.
	Ends *Rule
	// Acquires is the rule by which no load behind it is executed before it, nor before
	// a load that comes before it; nil if there is none.
	Acquires *Rule
	// Atomic: it changes what is there in one. Bits: it only sets or clears bits, and
	// does not say what was there.
	Atomic, Bits bool
	// OrdersStores: stores behind it become visible after those before it.
	OrdersStores bool
	// Branches: it may go on elsewhere than at the next instruction.
	Branches bool
}

// EndsLoads is the rule by which no load behind the instruction is executed before a load
// that comes before it; nil if there is none. A release orders what is before it with
// itself, and a load behind it with nothing.
func (e Effect) EndsLoads() *Rule {
	switch {
	case e.Acquires != nil:
		return e.Acquires
	case e.Ends == Release:
		return nil
	}
	return e.Ends
}

// Shared says whether it can matter to another CPU that the instruction was executed: it
// accesses memory that is not this CPU's own, or goes on where that may happen, in another
// function or its caller. A CPU that is held up before any other instruction could as well
// be held up before the next one.
func Shared(p disasm.Point) bool {
	e := Of(p)
	if e.Branches {
		return len(Ahead(p)) < 2 // of a conditional branch both are known
	}
	return (e.Reads || e.Writes) && !e.Private || e.Ends != nil
}

// Location is a range of memory.
type Location struct {
	Addr  uint64
	Bytes uint8
}

func (l Location) String() string { return fmt.Sprintf("%d bytes at %#x", l.Bytes, l.Addr) }

// Overlaps says whether the two have a byte in common.
func (l Location) Overlaps(m Location) bool {
	return l.Addr < m.Addr+uint64(m.Bytes) && m.Addr < l.Addr+uint64(l.Bytes)
}

// Contains says whether all of m is in l.
func (l Location) Contains(m Location) bool {
	return l.Addr <= m.Addr && m.Addr+uint64(m.Bytes) <= l.Addr+uint64(l.Bytes)
}
