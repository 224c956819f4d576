package vm

import (
	"slices"

	"github.com/ringproof/ringproof/internal/contract"
)

// marks knows which tests have begun and ended, from the lines that they
// write to the kernel's log.
type marks struct {
	begun []string       // and not ended, in order
	ended map[string]int // how many times
}

// line says whether the line is a mark.
func (m *marks) line(text string) bool {
	test, begin, ok := contract.ParseMark(text)
	if !ok {
		return false
	}
	if begin {
		m.begun = append(m.begun, test)
		return true
	}
	if m.ended == nil {
		m.ended = make(map[string]int)
	}
	m.ended[test]++
	m.begun = slices.DeleteFunc(m.begun, func(t string) bool { return t == test })
	return true
}

// running is the test that began last and has not ended.
func (m *marks) running() string {
	if len(m.begun) == 0 {
		return ""
	}
	return m.begun[len(m.begun)-1]
}
