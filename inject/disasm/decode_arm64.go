package disasm

import "github.com/ringproof/ringproof/internal/guest/symbols"

// decode appends the instructions of one part of the function.
func (f *Function) decode(table symbols.Table, part symbols.Symbol, code []byte) error {
	return f.decodeA64(table, part, code)
}
