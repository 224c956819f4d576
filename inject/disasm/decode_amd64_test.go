package disasm

import (
	"testing"

	"github.com/ringproof/ringproof/internal/guest/symbols"
)

// TestDecode: a function ends with its last instruction, whatever that is.
func TestDecode(t *testing.T) {
	table := symbols.Table{{Addr: 0x1000, Raw: "callee", Name: "callee"}, {Addr: 0x2000, Raw: "f", Name: "f"}}
	f := &Function{Name: "f"}
	code := []byte{0xe8, 0xfb, 0xef, 0xff, 0xff, 0xc3, 0xcc, 0xcc, 0xcc}
	if err := f.decode(table, table[1], code); err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, p := range f.Points {
		text = append(text, p.Text)
	}
	if len(text) != 2 || text[0] != "callq callee" || text[1] != "retq" {
		t.Errorf("have %q, want a call and a return", text)
	}
	if len(f.Calls) != 1 || f.Calls[0].Name != "callee" {
		t.Errorf("calls %v, want callee", f.Calls)
	}
}
