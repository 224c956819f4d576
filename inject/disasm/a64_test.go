package disasm

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/guest/symbols"
)

// TestCritical: all of a function whose spinlock is inlined, and from the call on of one
// that calls what takes it.
func TestCritical(t *testing.T) {
	f := &Function{Name: "f", Calls: []symbols.Symbol{{Raw: "callee"}}}
	for i, text := range []string{"mov x0, x1", "bl _raw_spin_lock", "ret"} {
		f.Points = append(f.Points, Point{Symbol: "f", Offset: 4 * uint64(i), Text: text})
	}
	g := &Function{Name: "g"}
	for i, text := range []string{"mov x0, x1", "ret", "bl queued_spin_lock_slowpath"} {
		g.Points = append(g.Points, Point{Symbol: "g", Offset: 4 * uint64(i), Text: text})
	}
	h := &Function{Name: "h", Points: []Point{{Symbol: "h", Text: "ret"}}}
	var got []string
	for _, p := range Critical([]*Function{f, g, h}, slices.Concat(f.Points, g.Points, h.Points)) {
		got = append(got, p.String())
	}
	if want := []string{"f+0x4", "f+0x8", "g+0x0", "g+0x4", "g+0x8"}; !slices.Equal(got, want) {
		t.Errorf("have %q, want %q", got, want)
	}
}

// TestDecodeA64: calls and jumps name where they go, unknown instructions are points, and
// nothing from a load-exclusive to its store is.
func TestDecodeA64(t *testing.T) {
	table := symbols.Table{{Addr: 0x1000, Raw: "callee", Name: "callee"}, {Addr: 0x2000, Raw: "f", Name: "f"}, {Addr: 0x3000, Raw: "last", Name: "last"}}
	f := &Function{Name: "f"}
	var code []byte
	for _, word := range []uint32{
		0x885f7c02, // ldxr w2, [x0], and no store
		0xd503233f, // paciasp
		0x97fffbfe, // bl callee
		0xb4000040, // cbz x0, +8
		0xb8e00020, // ldaddal w0, w0, [x1], of LSE
		0x885f7c02, // ldxr w2, [x0]
		0x11000442, // add w2, w2, #1
		0x88037c02, // stxr w3, w2, [x0]
		0x35ffffa3, // cbnz w3, -12
		0x88a07c41, // cas w0, w1, [x2], of LSE
		0x08607c82, // casp w0, w1, w2, w3, [x4], of LSE
		0x17fffbf5, // b callee
		0xf9800051, // prfm pstl1strm, [x2]
		0xc85f7c40, // ldxr x0, [x2]
		0xb2400000, // orr x0, x0, #1
		0xc8017c40, // stxr w1, x0, [x2]
		0x35ffffa1, // cbnz w1, -12
		0xd65f03c0, // ret
		0xd503201f, // nop
		0x00000000,
	} {
		code = binary.LittleEndian.AppendUint32(code, word)
	}
	if err := f.decodeA64(table, table[1], code); err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, p := range f.Points {
		text = append(text, p.String()+" "+p.Text)
	}
	want := []string{
		"f+0x0 ldxr w2, [x0]",
		"f+0x4 hint #0x19", "f+0x8 bl callee", "f+0xc cbz x0, f+0x14", "f+0x10 .inst 0xb8e00020",
		"f+0x20 cbnz w3, f+0x14", "f+0x24 .inst 0x88a07c41", "f+0x28 .inst 0x08607c82", "f+0x2c b callee",
		"f+0x30 prfm pstl1strm, [x2], and the loop of load-exclusive and store-exclusive behind it", "f+0x44 ret",
	}
	if !slices.Equal(text, want) {
		t.Errorf("have\n%s\nwant\n%s", strings.Join(text, "\n"), strings.Join(want, "\n"))
	}
	if len(f.Calls) != 1 || f.Calls[0].Name != "callee" {
		t.Errorf("calls %v, want callee", f.Calls)
	}
	if len(f.Skipped) != 1 || !strings.Contains(f.Skipped[0], "f+0x14 (ldxr w2, [x0]) and the 2 behind it") {
		t.Errorf("skipped %q", f.Skipped)
	}
}
