package disasm

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/guest/symbols"
	"golang.org/x/arch/arm64/arm64asm"
)

// decodeA64 is decode for arm64. Each instruction has four bytes, so
// that one that arm64asm does not know (it knows those of Armv8.0) is a point all the
// same, as GNU's disassembler writes it: ".inst 0xb8e00020".
func (f *Function) decodeA64(table symbols.Table, part symbols.Symbol, code []byte) error {
	name := func(addr uint64) string {
		s, ok := table.At(addr)
		if !ok {
			return fmt.Sprintf("%#x", addr)
		}
		f.called(s)
		if addr == s.Addr {
			return s.Raw
		}
		return fmt.Sprintf("%s+%#x", s.Raw, addr-s.Addr)
	}
	until := 0 // up to here it is a load-exclusive, its store, and what belongs to them
	for at := 0; at+4 <= len(code); at += 4 {
		word := binary.LittleEndian.Uint32(code[at:])
		p := Point{Addr: part.Addr + uint64(at), Symbol: part.Raw, Offset: uint64(at), Code: string(code[at : at+4])}
		in, err := arm64asm.Decode(code[at:])
		if err != nil {
			p.Text = fmt.Sprintf(".inst %#08x", word)
		} else {
			p.Text = strings.TrimSpace(arm64asm.GNUSyntax(in))
		}
		if i := jump(in); err == nil && i >= 0 {
			to := in.Args[i].(arm64asm.PCRel)
			// It is the last argument of each.
			p.Text = strings.TrimSuffix(p.Text, strings.ToLower(to.String())) + name(p.Addr+uint64(int64(to)))
		}
		// An exception clears the monitor, so the store would fail for ever: one
		// comes with a breakpoint, and one when the CPU has stepped over it (Arm
		// ARM B2.9.5; the kernel sets no kprobe there for the same reason,
		// arch/arm64/kernel/probes/decode-insn.c: arm_kprobe_decode_insn).
		if at < until {
			continue
		}
		if n := prefetched(code[at:]); n > 0 {
			until = at + n
			p.Code, p.Text = string(code[at:until]), p.Text+", and the loop of load-exclusive and store-exclusive behind it"
			f.Points = append(f.Points, p)
			continue
		}
		if n := exclusive(code[at:]); n > 0 {
			until = at + n
			f.Skipped = append(f.Skipped, fmt.Sprintf("%v (%s) and the %d behind it: the last is a store-exclusive, which would fail for ever", p, p.Text, n/4-1))
			continue
		}
		f.Points = append(f.Points, p)
	}
	// What pads functions apart is not part of them: nops, and zeros.
	for n := len(f.Points); n > 0 && (f.Points[n-1].Text == "nop" || f.Points[n-1].Text == ".inst 0x00000000"); n-- {
		f.Points = f.Points[:n-1]
	}
	return nil
}

// jump is which argument of a jump or call says by how much; -1 of anything else.
func jump(in arm64asm.Inst) int {
	switch in.Op {
	case arm64asm.B, arm64asm.BL, arm64asm.CBZ, arm64asm.CBNZ, arm64asm.TBZ, arm64asm.TBNZ:
		for i, arg := range in.Args {
			if _, ok := arg.(arm64asm.PCRel); ok {
				return i
			}
		}
	}
	return -1
}

// prefetched is the length of an atomic operation that begins with a prefetch for it, as
// the kernel's do (arch/arm64/include/asm/atomic_ll_sc.h), and ends with the branch that
// tries again; 0 if there is none. To a breakpoint it is one instruction.
func prefetched(code []byte) int {
	const prfm, mask = 0xf9800011, 0xffc0001f // pstl1strm, of a register without offset
	if len(code) < 8 || binary.LittleEndian.Uint32(code)&(mask|0x3ffc00) != prfm {
		return 0
	}
	n := exclusive(code[4:])
	if n == 0 || len(code) < 4+n+4 {
		return 0
	}
	again := binary.LittleEndian.Uint32(code[4+n:])
	if again&0x7f000000 != 0x35000000 || int32(again<<8)>>13 != int32(-n/4) { // cbnz
		return 0
	}
	return 4 + n + 4
}

// exclusive is the length of what a load-exclusive begins and its store-exclusive ends;
// 0 if neither is there. One without a store waits for a change
// (arch/arm64/include/asm/cmpxchg.h: __cmpwait).
func exclusive(code []byte) int {
	if !isExclusive(binary.LittleEndian.Uint32(code), load) {
		return 0
	}
	const most = 32 // MAX_ATOMIC_CONTEXT_SIZE of the kernel's
	for at := 4; at+4 <= len(code) && at < 4*most; at += 4 {
		switch word := binary.LittleEndian.Uint32(code[at:]); {
		case isExclusive(word, store):
			return at + 4
		case isExclusive(word, load):
			return 0
		}
	}
	return 0
}

// Bit 22 of the instructions of the class "load/store exclusive" tells the two apart
// (Arm ARM, A64 instruction set encoding).
const (
	load  = 1 << 22
	store = 0
)

// isExclusive says whether the instruction is a load-exclusive, or a store-exclusive:
// ldxr, ldaxr, ldxp and ldaxp, or stxr and so on, of any size.
func isExclusive(word uint32, what uint32) bool {
	const class, ordered = 0x3f000000, 1 << 23
	if word&class != 0x08000000 || word&ordered != 0 || word&load != what {
		return false
	}
	// With bit 21 and a size of less than 32 bits it is casp, which is no pair of two.
	return word&(1<<21) == 0 || word>>31 == 1
}
