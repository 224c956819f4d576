package order

import (
	"testing"

	"github.com/ringproof/ringproof/inject/disasm"
)

func TestFlowA64(t *testing.T) {
	for _, test := range []struct {
		code uint32
		text string
		want Flow
	}{
		{0xf8626801, "ldr x1, [x0, x2]", Flow{Address: set(0, 2), Loads: set(1)}},
		{0x39400401, "ldrb w1, [x0, #1]", Flow{Address: set(0), Loads: set(1)}},
		{0xa8c10861, "ldp x1, x2, [x3], #16", Flow{Address: set(3), Loads: set(1, 2)}},
		{0xf94007e1, "ldr x1, [sp, #8]", Flow{Address: set(sp), Loads: set(1)}},
		{0xf90007e1, "str x1, [sp, #8]", Flow{Address: set(sp), Stores: set(1)}},
		{0xa9007c61, "stp x1, xzr, [x3]", Flow{Address: set(3), Stores: set(1)}},
		{0xc89ffc01, "stlr x1, [x0]", Flow{Address: set(0), Stores: set(1)}},
		{0xc8dffc01, "ldar x1, [x0]", Flow{Address: set(0), Loads: set(1)}},
		{0xf8218062, "swp x1, x2, [x3]", Flow{Address: set(3), Loads: set(2), Stores: set(1)}},
		{0xf821307f, "stset x1, [x3]", Flow{Address: set(3), Stores: set(1)}},
		{0xc8a17c62, "cas x1, x2, [x3]", Flow{Address: set(3), Loads: set(1), Stores: set(1, 2)}},
		{0xf9800000, "prfm pldl1keep, [x0]", Flow{}},
		{0x90000001, "adrp x1, .", Flow{To: set(1)}},
		{0x91001041, "add x1, x2, #4", Flow{From: set(2), To: set(1)}},
		{0x910043ff, "add sp, sp, #16", Flow{From: set(sp), To: set(sp)}},
		{0xf100103f, "cmp x1, #4", Flow{From: set(1), To: set(flags)}},
		{0x910003e1, "mov x1, sp", Flow{From: set(sp), To: set(1)}},
		{0x92401c41, "and x1, x2, #0xff", Flow{From: set(2), To: set(1)}},
		{0xf240003f, "tst x1, #1", Flow{From: set(1), To: set(flags)}},
		{0xd28000e1, "mov x1, #7", Flow{To: set(1)}},
		{0xf2a000e1, "movk x1, #7, lsl #16", Flow{From: set(1), To: set(1)}},
		{0xd3431841, "ubfx x1, x2, #3, #4", Flow{From: set(2), To: set(1)}},
		{0xb37d0c41, "bfi x1, x2, #3, #4", Flow{From: set(1, 2), To: set(1)}},
		{0x93c31041, "extr x1, x2, x3, #4", Flow{From: set(2, 3), To: set(1)}},
		{0xaa0203e1, "mov x1, x2", Flow{From: set(2), To: set(1)}},
		{0xea230041, "bics x1, x2, x3", Flow{From: set(2, 3), To: set(1, flags)}},
		{0x8b030c41, "add x1, x2, x3, lsl #3", Flow{From: set(2, 3), To: set(1)}},
		{0xeb02003f, "cmp x1, x2", Flow{From: set(1, 2), To: set(flags)}},
		{0x8b234c41, "add x1, x2, w3, uxtw #3", Flow{From: set(2, 3), To: set(1)}},
		{0xeb22c03f, "cmp x1, w2, sxtw", Flow{From: set(1, 2), To: set(flags)}},
		{0x9b031041, "madd x1, x2, x3, x4", Flow{From: set(2, 3, 4), To: set(1)}},
		{0x9a030041, "adc x1, x2, x3", Flow{From: set(2, 3, flags), To: set(1)}},
		{0xfa440820, "ccmp x1, #4, #0, eq", Flow{From: set(1, flags), To: set(flags)}},
		{0xfa420020, "ccmp x1, x2, #0, eq", Flow{From: set(1, 2, flags), To: set(flags)}},
		{0x9a830041, "csel x1, x2, x3, eq", Flow{From: set(2, 3, flags), To: set(1)}},
		{0x9a9f07e1, "cset x1, ne", Flow{From: set(flags), To: set(1)}},
		{0x9ac30841, "udiv x1, x2, x3", Flow{From: set(2, 3), To: set(1)}},
		{0xdac00c41, "rev x1, x2", Flow{From: set(1, 2), To: set(1)}},
		{0x94000000, "bl .", Flow{To: set(30)}},
		{0xd63f0020, "blr x1", Flow{To: set(30)}},
		{0xd65f03c0, "ret", Flow{}},
		{0xb4000001, "cbz x1, .", Flow{}},
		{0xd5384101, "mrs x1, sp_el0", Flow{To: set(1)}},
		{0xd53b4201, "mrs x1, nzcv", Flow{From: set(flags), To: set(1)}},
		{0xf8400801, "ldtr x1, [x0]", Flow{Address: set(0), Loads: set(1)}},
		{0xd503233f, "paciasp", Flow{}},
	} {
		if f, ok := FlowA64(a64(test.code)); !ok || f != test.want {
			t.Errorf("%s: %+v, %v, want %+v", test.text, f, ok, test.want)
		}
	}
	for code, text := range map[uint32]string{0xba0043e1: "rmif", 0x3dc00000: "ldr q0, [x0]", 0xbac30041: "subps x1, x2, x3"} {
		if f, ok := FlowA64(a64(code)); ok {
			t.Errorf("%s: %+v", text, f)
		}
	}
}

// TestDependencies: each is a way from the first load, which fills x1, to the address of
// the last.
func TestDependencies(t *testing.T) {
	const (
		first  = 0xf9400001 // ldr x1, [x0]
		second = 0xf9400083 // ldr x3, [x4]
	)
	for _, test := range []struct {
		text    string
		codes   []uint32
		depends []int
	}{
		{"another register", []uint32{second}, nil},
		{"cbz x1, .+4", []uint32{0xb4000021, second}, nil},
		{"add x4, x1, x2", []uint32{0x8b020024, second}, []int{0}},
		{"add x4, x1, x2; mov x4, #7", []uint32{0x8b020024, 0xd28000e4, second}, nil},
		{"cmp x1, #4; csel x4, x2, x5, eq", []uint32{0xf100103f, 0x9a850044, second}, []int{0}},
		{"ldr x4, [x2]", []uint32{0xf9400044, second}, []int{1}},
		{"ldr x4, [x1]", []uint32{0xf9400024, second}, []int{0, 1}},
		{"str x1, [sp, #8]; ldr x4, [sp, #8]", []uint32{0xf90007e1, 0xf94007e4, second}, []int{0}},
		{"str x2, [sp, #8]; ldr x4, [sp, #8]", []uint32{0xf90007e2, 0xf94007e4, second}, nil},
		{"ldr x4, [x2], #8; ldr x3, [x2]", []uint32{0xf8408444, 0xf9400043}, nil},
		{"swp x1, x4, [x2]", []uint32{0xf8218044, second}, []int{0, 1}},
		{"ldtr x4, [x2]", []uint32{0xf8400844, second}, []int{0}},
	} {
		var d Dependencies
		regs := &Registers{SP: 0x1000}
		for i := range regs.GPR {
			regs.GPR[i] = uint64(0x8000 + i<<8)
		}
		regs.GPR[sp] = regs.SP
		var address Loads
		loads := 0
		for _, code := range append([]uint32{first}, test.codes...) {
			p := a64(code)
			e, n := ofA64(p), Nobody
			if e.Reads && !e.Private {
				n, loads = loads, loads+1
			}
			var ok bool
			if address, ok = d.Execute(p, e, Location{e.Operand.Address(regs), e.Operand.Bytes}, n); !ok {
				t.Fatalf("%s: not known", test.text)
			}
		}
		var want Loads
		for _, n := range test.depends {
			want = want.With(n)
		}
		if address != want {
			t.Errorf("%s: it depends on %v, want %v", test.text, address, want)
		}
	}
}

// TestLoopFlow: what an atomic operation does with registers counts as loaded.
func TestLoopFlow(t *testing.T) {
	p := disasm.Point{}
	for _, code := range []uint32{0xf9800051, 0xc85f7c40, 0xb2400000, 0xc8017c40, 0x35ffffa1} { // prfm; ldxr x0; orr x0, #1; stxr w1, x0; cbnz
		p.Code += a64(code).Code
	}
	if f, ok := FlowA64(p); !ok || f != (Flow{Address: set(2), Loads: set(0, 1), Stores: set(0)}) {
		t.Errorf("%+v, %v", f, ok)
	}
}
