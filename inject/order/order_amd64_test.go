package order

import (
	"testing"

	"github.com/ringproof/ringproof/inject/disasm"
)

func TestEffects(t *testing.T) {
	const ax, dx, bp, si, r8 = 0, 2, 5, 6, 8
	for _, test := range []struct {
		text, code    string
		reads, writes bool
		private       bool
		ends          *Rule
		operand       Operand
	}{
		{text: "mov %r9,(%rsi,%r8,8)", code: "\x4e\x89\x0c\xc6", writes: true, operand: Operand{Base: si, Index: r8, Scale: 8, Bytes: 8}},
		{text: "mov 0x110(%rbp),%rax", code: "\x48\x8b\x85\x10\x01\x00\x00", reads: true, operand: Operand{Base: bp, Index: None, Bytes: 8, Disp: 0x110}},
		{text: "mov 0x10(%rip),%eax", code: "\x8b\x05\x10\x00\x00\x00", reads: true, operand: Operand{Base: None, Index: None, Bytes: 4, Disp: 0x1016}},
		{text: "movb $0x0,(%rdx)", code: "\xc6\x02\x00", writes: true, operand: Operand{Base: dx, Index: None, Bytes: 1}},
		{text: "orb $0x1,(%rax)", code: "\x80\x08\x01", reads: true, writes: true, operand: Operand{Base: ax, Index: None, Bytes: 1}},
		{text: "cmpq $0x0,(%rax)", code: "\x48\x83\x38\x00", reads: true, operand: Operand{Base: ax, Index: None, Bytes: 8}},
		{text: "mov %gs:0x0,%rax", code: "\x65\x48\x8b\x04\x25\x00\x00\x00\x00", reads: true, private: true, operand: Operand{Base: None, Index: None, Bytes: 8}},
		{text: "lock orb $0x1,(%rax)", code: "\xf0\x80\x08\x01", reads: true, writes: true, ends: Locked, operand: Operand{Base: ax, Index: None, Bytes: 1}},
		{text: "lock addl $0x0,-0x4(%rsp)", code: "\xf0\x83\x44\x24\xfc\x00", reads: true, writes: true, ends: Locked, operand: Operand{Base: 4, Index: None, Bytes: 4, Disp: -4}},
		{text: "xchg %eax,(%rdx)", code: "\x87\x02", reads: true, writes: true, ends: Locked, operand: Operand{Base: dx, Index: None, Bytes: 4}},
		{text: "xchg %rax,%rdx", code: "\x48\x92"},
		{text: "mfence", code: "\x0f\xae\xf0", ends: Fence},
		{text: "lfence", code: "\x0f\xae\xe8", ends: HalfFence},
		{text: "sfence", code: "\x0f\xae\xf8", ends: HalfFence},
		{text: "cpuid", code: "\x0f\xa2", ends: Serializing},
		{text: "iretq", code: "\x48\xcf", ends: Serializing},
		{text: "wrmsr", code: "\x0f\x30", ends: Serializing},
		{text: "mov %rax,%cr3", code: "\x0f\x22\xd8", ends: Serializing},
		{text: "out %al,(%dx)", code: "\xee", ends: Serializing},
		{text: "rep stos %al,(%rdi)", code: "\xf3\xaa", ends: String},
		{text: "movnti %rax,(%rdx)", code: "\x48\x0f\xc3\x02", ends: Streaming},
		{text: "stac", code: "\x0f\x01\xcb", ends: Unknown},
		{text: "ud2", code: "\x0f\x0b", ends: Unknown},
		{text: "bts %rax,(%rdx)", code: "\x48\x0f\xab\x02", ends: Unknown}, // anywhere
		{text: "endbr64", code: endbr64},
		{text: "lea 0x8(%rax),%rdx", code: "\x48\x8d\x50\x08"},
		{text: "push %rbp", code: "\x55"},
		{text: "ret", code: "\xc3"},
		{text: "nopl (%rax)", code: "\x0f\x1f\x00"},
	} {
		e := Of(disasm.Point{Addr: 0x1000, Code: test.code})
		if e.Ends != test.ends || e.Private != test.private {
			t.Errorf("%s: ends %v, private %v", test.text, e.Ends, e.Private)
		}
		if test.ends == nil && (e.Reads != test.reads || e.Writes != test.writes) {
			t.Errorf("%s: reads %v, writes %v", test.text, e.Reads, e.Writes)
		}
		if test.operand.Bytes > 0 && e.Operand != test.operand {
			t.Errorf("%s: operand %+v, want %+v", test.text, e.Operand, test.operand)
		}
	}
}

func TestWhereItGoesOn(t *testing.T) {
	const addr = 0x1000
	read := func(_ uint64, to []byte) error { copy(to, "\x00\x30"); return nil }
	for _, test := range []struct {
		text, code string
		flags      uint64
		want       uint64
	}{
		{"je +0x10, not equal", "\x74\x10", 0, addr + 2},
		{"je +0x10, equal", "\x74\x10", zero, addr + 2 + 0x10},
		{"jl -0x10, less", "\x7c\xf0", sign, addr + 2 - 0x10},
		{"jl -0x10, not less", "\x7c\xf0", sign | overflow, addr + 2},
		{"ja +0x10, below", "\x77\x10", carry, addr + 2},
		{"jmp +0x10", "\xeb\x10", 0, addr + 2 + 0x10},
		{"call +0x10", "\xe8\x10\x00\x00\x00", 0, addr + 5 + 0x10},
		{"jmp *%rdx", "\xff\xe2", 0, 0x2222},
		{"call *(%rdx)", "\xff\x12", 0, 0x3000},
		{"ret", "\xc3", 0, 0x4444},
		{"mov %rax,%rdx", "\x48\x89\xc2", 0, addr + 3},
	} {
		r := &Registers{Flags: test.flags, Top: 0x4444}
		r.GPR[2] = 0x2222
		if got, err := Next(disasm.Point{Addr: addr, Code: test.code}, r, read); err != nil || got != test.want {
			t.Errorf("%s: goes on at %#x, %v; want %#x", test.text, got, err, test.want)
		}
	}
}

func TestLocations(t *testing.T) {
	l := Location{0x10, 8}
	for _, test := range []struct {
		m                   Location
		overlaps, contained bool
	}{
		{Location{0x10, 8}, true, true}, {Location{0x14, 4}, true, true}, {Location{0x14, 8}, true, false}, {Location{0xc, 8}, true, false}, {Location{0x18, 4}, false, false}, {Location{0x8, 8}, false, false},
	} {
		if l.Overlaps(test.m) != test.overlaps || l.Contains(test.m) != test.contained {
			t.Errorf("%v: overlaps %v, contains %v", test.m, l.Overlaps(test.m), l.Contains(test.m))
		}
	}
}

func TestShared(t *testing.T) {
	for _, test := range []struct {
		text, code string
		want       bool
	}{
		{"mov 0x110(%rbp),%rax", "\x48\x8b\x85\x10\x01\x00\x00", true},
		{"movb $0x0,(%rdx)", "\xc6\x02\x00", true},
		{"lock orb $0x1,(%rax)", "\xf0\x80\x08\x01", true},
		{"lock addl $0x0,-0x4(%rsp)", "\xf0\x83\x44\x24\xfc\x00", true}, // a barrier
		{"mfence", "\x0f\xae\xf0", true},
		{"bts %rax,(%rdx)", "\x48\x0f\xab\x02", true},
		{"stac", "\x0f\x01\xcb", true}, // not known
		{"call", "\xe8\x00\x00\x00\x00", true},
		{"jmp", "\xeb\x10", true},
		{"ret", "\xc3", true},
		{"je", "\x74\x10", false},
		{"mov %gs:0x0,%rax", "\x65\x48\x8b\x04\x25\x00\x00\x00\x00", false},
		{"lea 0x8(%rax),%rdx", "\x48\x8d\x50\x08", false},
		{"push %rbp", "\x55", false},
		{"test %rax,%rax", "\x48\x85\xc0", false},
	} {
		if got := Shared(disasm.Point{Addr: 0x1000, Code: test.code}); got != test.want {
			t.Errorf("%s: have %v", test.text, got)
		}
	}
}
