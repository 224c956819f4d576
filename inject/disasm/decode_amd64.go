package disasm

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/guest/symbols"
	"golang.org/x/arch/x86/x86asm"
)

// decode appends the instructions of one part of the function.
func (f *Function) decode(table symbols.Table, part symbols.Symbol, code []byte) error {
	name := func(addr uint64) (string, uint64) {
		s, ok := table.At(addr)
		if !ok {
			return "", 0
		}
		return s.Raw, s.Addr
	}
	// What pads functions apart, int3 and nops, is not part of them
	// (arch/x86/include/asm/linkage.h). Not bytes.TrimRight, to which all
	// bytes that are no UTF-8 are alike, ret among them.
	for bytes.HasSuffix(code, []byte{0xcc}) {
		code = code[:len(code)-1]
	}
	for at := 0; at < len(code); {
		addr := part.Addr + uint64(at)
		p := Point{Addr: addr, Symbol: part.Raw, Offset: uint64(at)}
		length := opaque(code[at:])
		if length > 0 {
			p.Text = fmt.Sprintf("% x", code[at:at+length])
		} else {
			in, err := x86asm.Decode(code[at:], 64)
			if err != nil {
				f.Skipped = append(f.Skipped, fmt.Sprintf("%v and all after it: not decoded: %v (% x)", p, err, code[at:min(at+8, len(code))]))
				return nil
			}
			length = in.Len
			p.Text = x86asm.GNUSyntax(in, addr, name)
			if target, ok := in.Args[0].(x86asm.Rel); ok {
				if s, ok := table.At(addr + uint64(in.Len) + uint64(int64(target))); ok {
					f.called(s)
				}
			}
		}
		p.Code = string(code[at : at+length])
		f.Points = append(f.Points, p)
		at += length
	}
	// The same for nops at the end of a function in the middle of a section.
	for n := len(f.Points); n > 0 && strings.HasPrefix(f.Points[n-1].Text, "nop"); n-- {
		f.Points = f.Points[:n-1]
	}
	return nil
}

// opaque is the length of an instruction that x86asm does not know and kernels
// have; 0 of any other.
func opaque(code []byte) int {
	for _, in := range [][]byte{
		{0xf3, 0x0f, 0x1e, 0xfa}, // endbr64
		{0x0f, 0x01, 0xca},       // clac
		{0x0f, 0x01, 0xcb},       // stac
	} {
		if bytes.HasPrefix(code, in) {
			return len(in)
		}
	}
	return 0
}
