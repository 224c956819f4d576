package order

import (
	"encoding/binary"
	"testing"

	"github.com/ringproof/ringproof/inject/disasm"
)

func a64(code uint32) disasm.Point {
	return disasm.Point{Addr: 0x1000, Code: string(binary.LittleEndian.AppendUint32(nil, code))}
}

func TestEffectsA64(t *testing.T) {
	at := func(base uint8, disp int64, bytes uint8) Operand {
		return Operand{Base: base, Index: None, Disp: disp, Bytes: bytes}
	}
	for _, test := range []struct {
		code uint32
		text string
		want Effect
	}{
		{0xf9000001, "str x1, [x0]", Effect{Writes: true, Operand: at(0, 0, 8)}},
		{0xb9000801, "str w1, [x0, #8]", Effect{Writes: true, Operand: at(0, 8, 4)}},
		{0x39000c41, "strb w1, [x2, #3]", Effect{Writes: true, Operand: at(2, 3, 1)}},
		{0xf861d802, "ldr x2, [x0, w1, sxtw #3]", Effect{Reads: true, Operand: Operand{Index: 1, Scale: 8, Extend: Signed32, Bytes: 8}}},
		{0xf8614802, "ldr x2, [x0, w1, uxtw]", Effect{Reads: true, Operand: Operand{Index: 1, Scale: 1, Extend: Unsigned32, Bytes: 8}}},
		{0xf8637802, "ldr x2, [x0, x3, lsl #3]", Effect{Reads: true, Operand: Operand{Index: 3, Scale: 8, Bytes: 8}}},
		{0xf81f8001, "stur x1, [x0, #-8]", Effect{Writes: true, Operand: at(0, -8, 8)}},
		{0xb9800441, "ldrsw x1, [x2, #4]", Effect{Reads: true, Operand: at(2, 4, 4)}},
		{0xf8010c01, "str x1, [x0, #16]!", Effect{Writes: true, Operand: at(0, 16, 8)}},
		{0xf84107e1, "ldr x1, [sp], #16", Effect{Reads: true, Private: true, Operand: at(sp, 0, 8)}},
		{0xa9be7bfd, "stp x29, x30, [sp, #-32]!", Effect{Writes: true, Private: true, Operand: at(sp, -32, 16)}},
		{0xa9410861, "ldp x1, x2, [x3, #16]", Effect{Reads: true, Operand: at(3, 16, 16)}},
		{0xf9800000, "prfm pldl1keep, [x0]", Effect{}},
		{0xf821301f, "stset x1, [x0]", Effect{Reads: true, Writes: true, Atomic: true, Bits: true, Operand: at(0, 0, 8)}},
		{0xb821101f, "stclr w1, [x0]", Effect{Reads: true, Writes: true, Atomic: true, Bits: true, Operand: at(0, 0, 4)}},
		{0xf821001f, "stadd x1, [x0]", Effect{Reads: true, Writes: true, Atomic: true, Operand: at(0, 0, 8)}},
		{0xf8213002, "ldset x1, x2, [x0]", Effect{Reads: true, Writes: true, Atomic: true, Operand: at(0, 0, 8)}},
		{0xf8e13002, "ldsetal x1, x2, [x0]", Effect{Acquires: Acquire, Reads: true, Writes: true, Atomic: true, Ends: Dmb, Operand: at(0, 0, 8)}},
		{0xf8610002, "ldaddl x1, x2, [x0]", Effect{Reads: true, Writes: true, Atomic: true, Ends: Release, Operand: at(0, 0, 8)}},
		{0xf8a18002, "swpa x1, x2, [x0]", Effect{Acquires: Acquire, Reads: true, Writes: true, Atomic: true, Operand: at(0, 0, 8)}},
		{0xf8e18002, "swpal x1, x2, [x0]", Effect{Acquires: Acquire, Reads: true, Writes: true, Atomic: true, Ends: Dmb, Operand: at(0, 0, 8)}},
		{0xc8e1fc02, "casal x1, x2, [x0]", Effect{Acquires: Acquire, Reads: true, Writes: true, Atomic: true, Ends: Dmb, Operand: at(0, 0, 8)}},
		{0xc8a17c02, "cas x1, x2, [x0]", Effect{Reads: true, Writes: true, Atomic: true, Operand: at(0, 0, 8)}},
		{0xc8dffc01, "ldar x1, [x0]", Effect{Acquires: Acquire, Reads: true, Operand: at(0, 0, 8)}},
		{0xf8bfc001, "ldapr x1, [x0]", Effect{Acquires: Acquire, Reads: true, Operand: at(0, 0, 8)}},
		{0xc89ffc01, "stlr x1, [x0]", Effect{Writes: true, Ends: Release, Operand: at(0, 0, 8)}},
		{0x089ffc01, "stlrb w1, [x0]", Effect{Writes: true, Ends: Release, Operand: at(0, 0, 1)}},
		{0xc85f7c01, "ldxr x1, [x0]", Effect{Ends: Unknown}},
		{0xc8037c01, "stxr w3, x1, [x0]", Effect{Ends: Unknown}},
		{0xd5033bbf, "dmb ish", Effect{Ends: Dmb}},
		{0xd5033abf, "dmb ishst", Effect{OrdersStores: true}},
		{0xd50339bf, "dmb ishld", Effect{Acquires: LoadBarrier}},
		{0xd5033f9f, "dsb sy", Effect{Ends: Dmb}},
		{0xd5033fdf, "isb", Effect{Ends: Exception}},
		{0xd5384100, "mrs x0, sp_el0", Effect{}},
		{0xd50342df, "msr daifset, #0x2", Effect{}},
		{0xd518d080, "msr tpidr_el1, x0", Effect{Ends: Exception}},
		{0xd503201f, "nop", Effect{}},
		{0xd503245f, "bti c", Effect{}},
		{0x14000002, "b .+8", Effect{Branches: true}},
		{0xd65f03c0, "ret", Effect{Branches: true}},
		{0xd69f03e0, "eret", Effect{Ends: Exception}},
		{0xd4000001, "svc #0x0", Effect{Ends: Exception}},
		{0x8b020020, "add x0, x1, x2", Effect{}},
		{0xd2800020, "mov x0, #0x1", Effect{}},
		{0x90000000, "adrp x0, .", Effect{}},
		{0x9a820020, "csel x0, x1, x2, eq", Effect{}},
		{0x3dc00000, "ldr q0, [x0]", Effect{Ends: Unknown}},
		{0x48207c82, "casp x0, x1, x2, x3, [x4]", Effect{Ends: Unknown}},
		{0x58000040, "ldr x0, .+8", Effect{Ends: Unknown}},
		{0xf8000801, "sttr x1, [x0]", Effect{}},
	} {
		if e := ofA64(a64(test.code)); e != test.want {
			t.Errorf("%s: %+v, want %+v", test.text, e, test.want)
		}
	}
}

// TestLoopsA64: an atomic operation that is made of a load-exclusive and a
// store-exclusive is one instruction.
func TestLoopsA64(t *testing.T) {
	for _, test := range []struct {
		text string
		code []uint32
		want Effect
	}{
		{"set_bit()", []uint32{0xf9800051, 0xc85f7c40, 0xb2400000, 0xc8017c40, 0x35ffffa1}, Effect{Reads: true, Writes: true, Atomic: true, Bits: true}},
		{"with a register", []uint32{0xf9800051, 0xc85f7c40, 0xaa030000, 0xc8017c40, 0x35ffffa1}, Effect{Reads: true, Writes: true, Atomic: true, Bits: true}},
		{"with the old value", []uint32{0xf9800051, 0xc85f7c40, 0xb2400005, 0xc8017c45, 0x35ffffa1}, Effect{Reads: true, Writes: true, Atomic: true}},
		{"an addition", []uint32{0xf9800051, 0xc85f7c40, 0x8b030000, 0xc8017c40, 0x35ffffa1}, Effect{Reads: true, Writes: true, Atomic: true}},
		{"with release", []uint32{0xf9800051, 0xc85f7c40, 0xb2400000, 0xc801fc40, 0x35ffffa1}, Effect{Reads: true, Writes: true, Atomic: true, Bits: true, Ends: Release}},
	} {
		p := disasm.Point{Addr: 0x1000}
		for _, w := range test.code {
			p.Code += a64(w).Code
		}
		test.want.Operand = Operand{Base: 2, Index: None, Bytes: 8}
		if e := ofA64(p); e != test.want {
			t.Errorf("%s: %+v, want %+v", test.text, e, test.want)
		}
		if next, err := nextA64(p, &Registers{}); err != nil || next != 0x1014 {
			t.Errorf("%s goes on at %#x: %v", test.text, next, err)
		}
	}
}

// TestNextA64: where a branch goes is known from the registers.
func TestNextA64(t *testing.T) {
	r := &Registers{Flags: 1 << 30} // Z
	r.GPR[1], r.GPR[30] = 0x4000, 0x5000
	const behind = 0x1004
	for _, test := range []struct {
		code uint32
		text string
		want uint64
	}{
		{0x14000002, "b .+8", 0x1008},
		{0x94000002, "bl .+8", 0x1008},
		{0xb4000080, "cbz x0, .+16", 0x1010},
		{0xb5000081, "cbnz x1, .+16", 0x1010},
		{0xb5000080, "cbnz x0, .+16", behind},
		{0xb71fffe0, "tbnz x0, #35, .-4", behind},
		{0xb61fffe0, "tbz x0, #35, .-4", 0xffc},
		{0x54000041, "b.ne .+8", behind},
		{0x54000040, "b.eq .+8", 0x1008},
		{0x5400004c, "b.gt .+8", behind},
		{0x5400004d, "b.le .+8", 0x1008},
		{0xd61f0020, "br x1", 0x4000},
		{0xd63f0020, "blr x1", 0x4000},
		{0xd65f03c0, "ret", 0x5000},
		{0xd503201f, "nop", behind},
	} {
		if next, err := nextA64(a64(test.code), r); err != nil || next != test.want {
			t.Errorf("%s: %#x, %v; want %#x", test.text, next, err, test.want)
		}
	}
}

// TestOperandA64: an index may be the lower half of a register.
func TestOperandA64(t *testing.T) {
	r := &Registers{}
	r.GPR[0], r.GPR[1] = 0x8000, 0xffff_ffff
	for code, want := range map[uint32]uint64{
		0xf861d802: 0x8000 - 8,           // ldr x2, [x0, w1, sxtw #3]
		0xf8614802: 0x8000 + 0xffff_ffff, // ldr x2, [x0, w1, uxtw]
	} {
		if addr := ofA64(a64(code)).Operand.Address(r); addr != want {
			t.Errorf("%#x reads %#x, want %#x", code, addr, want)
		}
	}
}
