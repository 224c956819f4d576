package order

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ringproof/ringproof/inject/disasm"
)

// The rules of arm64. "Arm ARM" is the Arm Architecture Reference Manual for A-profile
// (DDI 0487), cited by headings, because section numbers differ between its issues; the
// same as a model is herd's aarch64.cat.
var (
	Dmb = &Rule{Name: "dmb",
		Says:   "dmb and dsb, with the options sy, ish, osh and nsh, keep all accesses before them before all behind them.",
		Source: "Arm ARM, Data Memory Barrier (DMB) and Data Synchronization Barrier (DSB); tools/memory-model/linux-kernel.cat: mb"}
	StoreBarrier = &Rule{Name: "dmb ishst",
		Says:   "dmb st and its like keep stores before them before stores behind them. Loads may still pass.",
		Source: "Arm ARM, Data Memory Barrier (DMB): limitations by type of access; smp_wmb() is dmb ishst (arch/arm64/include/asm/barrier.h)"}
	Release = &Rule{Name: "release",
		Says:   "A store-release, and an atomic instruction with release, become visible after all accesses before them. That a load behind them may pass all of these is not tried, nor that they are late themselves.",
		Source: "Arm ARM, Load-Acquire, Load-AcquirePC and Store-Release"}
	SameLocation = &Rule{Name: "same location",
		Says:   "Stores of one CPU to one location become visible in the order in which they are executed.",
		Source: "Arm ARM, internal visibility requirement; tools/memory-model/linux-kernel.cat: coherence"}
	LoadBarrier = &Rule{Name: "dmb ishld",
		Says:   "dmb ld and its like keep loads before them before all accesses behind them. Stores may still be late.",
		Source: "Arm ARM, Data Memory Barrier (DMB): limitations by type of access; smp_rmb() is dmb ishld (arch/arm64/include/asm/barrier.h)"}
	Acquire = &Rule{Name: "acquire",
		Says:   "A load-acquire, and an atomic instruction with acquire, are executed before all accesses behind them.",
		Source: "Arm ARM, Load-Acquire, Load-AcquirePC and Store-Release"}
	AddressDependency = &Rule{Name: "address dependency",
		Says:   "A load whose address is computed from what another load has read is executed behind that one. A branch in between orders no loads.",
		Source: "Arm ARM, address dependency and control dependency; Documentation/memory-barriers.txt: control dependencies"}
	ReadBefore = &Rule{Name: "read before",
		Says:   "Loads of one location by one CPU are executed in their order, and a load does not pass a store of its CPU to the same location.",
		Source: "Arm ARM, internal visibility requirement; tools/memory-model/linux-kernel.cat: coherence"}
	Exception = &Rule{Name: "exception", Lawful: true,
		Says:   "svc, hvc, smc, brk and eret, isb, and instructions for caches and page tables. What may pass them is not tried.",
		Source: "Arm ARM, exception entry and return; context synchronization events"}
)

// field is the bits of an instruction from lo on, n of them.
func field(word uint32, lo, n uint) uint32 { return word >> lo & (1<<n - 1) }

func signed(x uint32, bits uint) int64 { return int64(int32(x<<(32-bits)) >> (32 - bits)) }

// sp is the register 31 of a base, and zr that of an operand.
const (
	sp = 31
	zr = 31
)

func word(p disasm.Point) (uint32, bool) {
	if len(p.Code) != 4 {
		return 0, false
	}
	return binary.LittleEndian.Uint32([]byte(p.Code)), true
}

// ofA64 is Of for arm64. Encodings are those of Arm ARM, A64 instruction set encoding.
func ofA64(p disasm.Point) Effect {
	w, ok := word(p)
	if !ok {
		return loopA64(p)
	}
	switch {
	case field(w, 26, 3) == 0b101: // branches, exceptions, system
		return systemA64(w)
	case field(w, 25, 1) == 0 && field(w, 27, 1) == 1: // loads and stores
		e := memoryA64(w)
		e.Private = e.Operand.Bytes > 0 && e.Operand.Base == sp
		return e
	case field(w, 26, 3) == 0b100, field(w, 25, 3) == 0b101: // data processing, immediate and register
		return Effect{}
	}
	return Effect{Ends: Unknown} // SIMD, SVE, and what is reserved
}

// loopA64 is an atomic operation that is made of a prefetch, a load-exclusive, what
// changes it, a store-exclusive and a branch (inject/disasm).
func loopA64(p disasm.Point) Effect {
	var words []uint32
	for code := []byte(p.Code); len(code) >= 4; code = code[4:] {
		words = append(words, binary.LittleEndian.Uint32(code))
	}
	if len(words) < 4 {
		return Effect{Ends: Unknown}
	}
	load, store := words[1], words[len(words)-2]
	e := Effect{Operand: Operand{Base: uint8(field(load, 5, 5)), Index: None, Bytes: 1 << field(load, 30, 2)}, Reads: true, Writes: true, Atomic: true}
	if field(load, 15, 1) == 1 { // ldaxr
		e.Acquires = Acquire
	}
	if field(store, 15, 1) == 1 { // stlxr
		e.Ends = Release
	}
	if len(words) == 5 {
		// One register is loaded, changed and stored, so nobody looks at what was
		// there: orr, or and, with an immediate, or orr, bic with a register.
		change, to := words[2], field(load, 0, 5)
		same := field(change, 0, 5) == to && field(change, 5, 5) == to && field(store, 0, 5) == to
		immediate := field(change, 23, 6) == 0b100100 && field(change, 29, 2) <= 1
		register := field(change, 24, 5) == 0b01010 && (field(change, 29, 2) == 1 && field(change, 21, 1) == 0 || field(change, 29, 2) == 0)
		e.Bits = same && (immediate || register)
	}
	return e
}

func systemA64(w uint32) Effect {
	switch {
	case field(w, 26, 5) == 0b00101, // b, bl
		field(w, 25, 6) == 0b011010,   // cbz, cbnz
		field(w, 25, 6) == 0b011011,   // tbz, tbnz
		field(w, 24, 8) == 0b01010100: // b.cond
		return Effect{Branches: true}
	case field(w, 25, 7) == 0b1101011: // br, blr, ret; eret has opc 4
		if field(w, 21, 4) > 2 {
			return Effect{Ends: Exception}
		}
		return Effect{Branches: true}
	case w&0xfffff01f == 0xd503201f: // hints: nop, yield, bti, and those that sign addresses
		return Effect{}
	case w&0xfffff000 == 0xd5033000: // barriers
		switch op, option := field(w, 5, 3), field(w, 8, 4); {
		case op == 4 && option == 0, op == 7: // ssbb, sb: of speculation
			return Effect{}
		case (op == 4 || op == 5) && option&3 == 1: // ld
			return Effect{Acquires: LoadBarrier} // it orders no store
		case op == 5 && option&3 == 2: // dmb st
			return Effect{OrdersStores: true}
		case op == 4 || op == 5:
			return Effect{Ends: Dmb}
		case op == 2: // clrex
			return Effect{}
		}
		return Effect{Ends: Exception} // isb
	case field(w, 20, 12) == 0xd53: // mrs
		return Effect{}
	case field(w, 19, 13) == 0x1aa0 && field(w, 12, 4) == 4: // msr of an immediate: daifset
		return Effect{}
	}
	return Effect{Ends: Exception}
}

// memoryA64 takes loads and stores apart.
func memoryA64(w uint32) Effect {
	size := uint8(1) << field(w, 30, 2)
	base := func(disp int64, bytes uint8) Operand {
		return Operand{Base: uint8(field(w, 5, 5)), Index: None, Disp: disp, Bytes: bytes}
	}
	simd := field(w, 26, 1) == 1
	load := field(w, 22, 1) == 1
	switch class := field(w, 27, 3); {
	case simd:
		return Effect{Ends: Unknown}
	case field(w, 24, 6) == 0b001000: // exclusive, ordered, compare and swap
		return exclusiveA64(w, base(0, size))
	case class == 0b011 && field(w, 24, 2) == 0: // ldr of a literal
		return Effect{Ends: Unknown}
	case class == 0b101: // pairs
		scale := uint8(4)
		if field(w, 31, 1) == 1 {
			scale = 8
		}
		disp := signed(field(w, 15, 7), 7) * int64(scale)
		if field(w, 23, 2) == 1 { // post-index
			disp = 0
		}
		return Effect{Operand: base(disp, 2*scale), Reads: load, Writes: !load}
	case class != 0b111:
		return Effect{Ends: Unknown}
	}
	opc := field(w, 22, 2)
	e := Effect{Reads: opc != 0, Writes: opc == 0}
	prefetch := size == 8 && opc == 2
	switch {
	case field(w, 24, 2) == 1: // unsigned offset
		e.Operand = base(int64(field(w, 10, 12))*int64(size), size)
	case field(w, 24, 2) != 0:
		return Effect{Ends: Unknown}
	case field(w, 21, 1) == 0: // unscaled, post-index, unprivileged, pre-index
		disp := signed(field(w, 12, 9), 9)
		switch field(w, 10, 2) {
		case 1:
			disp = 0
		case 2: // sttr and ldtr: to user space
			return Effect{}
		}
		e.Operand = base(disp, size)
	case field(w, 10, 2) == 2: // register offset
		e.Operand = base(0, size)
		e.Operand.Index, e.Operand.Scale = uint8(field(w, 16, 5)), 1
		if field(w, 12, 1) == 1 {
			e.Operand.Scale = size
		}
		switch field(w, 13, 3) {
		case 0b010:
			e.Operand.Extend = Unsigned32
		case 0b110:
			e.Operand.Extend = Signed32
		}
		if e.Operand.Index == zr {
			e.Operand.Index = None
		}
	case field(w, 10, 2) == 0: // atomic
		return atomicA64(w, base(0, size))
	default:
		return Effect{Ends: Unknown} // pointer authentication
	}
	if prefetch {
		return Effect{}
	}
	return e
}

// atomicA64 is ldadd, ldset, swp and the like, and stadd, stset, which are these
// without a result.
func atomicA64(w uint32, o Operand) Effect {
	acquire, release := field(w, 23, 1) == 1, field(w, 22, 1) == 1
	opc, third := field(w, 12, 3), field(w, 15, 1) == 1
	if third && opc == 0b100 { // ldapr
		return Effect{Operand: o, Reads: true, Acquires: Acquire}
	}
	if third && opc != 0 {
		return Effect{Ends: Unknown}
	}
	e := Effect{Operand: o, Reads: true, Writes: true, Atomic: true}
	if acquire {
		e.Acquires = Acquire
	}
	switch {
	case acquire && release:
		e.Ends = Dmb
	case release:
		e.Ends = Release
	default:
		clears, sets := opc == 1, opc == 3
		e.Bits = !third && (clears || sets) && field(w, 0, 5) == zr
	}
	return e
}

// exclusiveA64 is ldxr, stxr, ldar, stlr and cas.
func exclusiveA64(w uint32, o Operand) Effect {
	o2, load, o1, o0 := field(w, 23, 1) == 1, field(w, 22, 1) == 1, field(w, 21, 1) == 1, field(w, 15, 1) == 1
	switch {
	case o2 && o1: // cas
		e := Effect{Operand: o, Reads: true, Writes: true, Atomic: true}
		if load {
			e.Acquires = Acquire
		}
		switch {
		case load && o0:
			e.Ends = Dmb
		case o0:
			e.Ends = Release
		}
		return e
	case o2 && load: // ldar, ldlar
		return Effect{Operand: o, Reads: true, Acquires: Acquire}
	case o2: // stlr, stllr
		return Effect{Operand: o, Writes: true, Ends: Release}
	}
	return Effect{Ends: Unknown} // no CPU can be held up there
}

// The conditions of b.cond, without the lowest bit, which negates.
func holds(cond uint32, nzcv uint64) bool {
	n, z, c, v := nzcv>>31&1 == 1, nzcv>>30&1 == 1, nzcv>>29&1 == 1, nzcv>>28&1 == 1
	is := [...]bool{z, c, n, v, c && !z, n == v, n == v && !z, true}[cond>>1]
	if cond&1 == 1 && cond != 15 {
		return !is
	}
	return is
}

// nextA64 is Next for arm64.
func nextA64(p disasm.Point, r *Registers) (uint64, error) {
	w, _ := word(p)
	behind := p.Addr + uint64(len(p.Code))
	gpr := func(n uint32) uint64 {
		if n == zr {
			return 0
		}
		return r.GPR[n]
	}
	to := func(imm uint32, bits uint) uint64 { return p.Addr + uint64(4*signed(imm, bits)) }
	if !ofA64(p).Branches {
		return behind, nil
	}
	switch {
	case field(w, 26, 5) == 0b00101:
		return to(field(w, 0, 26), 26), nil
	case field(w, 25, 6) == 0b011010:
		x := gpr(field(w, 0, 5))
		if field(w, 31, 1) == 0 {
			x = uint64(uint32(x))
		}
		if (x == 0) == (field(w, 24, 1) == 0) {
			return to(field(w, 5, 19), 19), nil
		}
		return behind, nil
	case field(w, 25, 6) == 0b011011:
		bit := field(w, 31, 1)<<5 | field(w, 19, 5)
		if uint32(gpr(field(w, 0, 5))>>bit&1) == field(w, 24, 1) {
			return to(field(w, 5, 14), 14), nil
		}
		return behind, nil
	case field(w, 24, 8) == 0b01010100:
		if holds(field(w, 0, 4), r.Flags) {
			return to(field(w, 5, 19), 19), nil
		}
		return behind, nil
	case field(w, 10, 11) == 0b11111_000000:
		return gpr(field(w, 5, 5)), nil
	}
	return 0, fmt.Errorf("where %v (%s) goes on: %w", p, p.Text, errors.ErrUnsupported)
}

// aheadA64 is Ahead for arm64.
func aheadA64(p disasm.Point) (addrs []uint64) {
	w, _ := word(p)
	behind := p.Addr + uint64(len(p.Code))
	to := func(imm uint32, bits uint) uint64 { return p.Addr + uint64(4*signed(imm, bits)) }
	switch {
	case !ofA64(p).Branches:
		return []uint64{behind}
	case field(w, 26, 5) == 0b00101:
		return []uint64{to(field(w, 0, 26), 26)}
	case field(w, 25, 6) == 0b011010, field(w, 24, 8) == 0b01010100:
		return []uint64{behind, to(field(w, 5, 19), 19)}
	case field(w, 25, 6) == 0b011011:
		return []uint64{behind, to(field(w, 5, 14), 14)}
	}
	return nil
}
