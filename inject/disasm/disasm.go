// Package disasm decodes functions of the running kernel, from its memory.
package disasm

import (
	"debug/elf"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ringproof/ringproof/internal/guest/symbols"
)

// Function is a function of the running kernel, taken apart.
type Function struct {
	Name   string
	Points []Point
	// Calls are the functions that it calls or jumps to by their address.
	Calls []symbols.Symbol
	// Skipped says what of it cannot be a point, and why.
	Skipped []string
}

// Point is the beginning of one instruction.
type Point struct {
	Addr uint64
	// Symbol and Offset are what schedules are named by: tun_net_xmit+0x1cb.
	Symbol string
	Offset uint64
	// Text is the instruction, in GNU's syntax, and Code its machine code.
	Text, Code string
}

func (p Point) String() string { return fmt.Sprintf("%s+%#x", p.Symbol, p.Offset) }

// NoFunctionError says that the kernel has no such function, or none that
// stands on its own.
type NoFunctionError struct{ Name string }

func (e *NoFunctionError) Error() string {
	return fmt.Sprintf("the running kernel has no function %s: it is not compiled in, its module is not loaded, or the compiler inlined it into its callers", e.Name)
}

// text reads the running kernel's own memory, with all that it has patched.
type text struct{ core *elf.File }

// openText opens it once for each process.
var openText = sync.OnceValues(func() (*text, error) {
	core, err := elf.Open("/proc/kcore")
	if err != nil {
		return nil, fmt.Errorf("read the kernel's text: the kernel needs CONFIG_PROC_KCORE: %w", err)
	}
	return &text{core}, nil
})

func (t *text) read(from, to uint64) ([]byte, error) {
	for _, p := range t.core.Progs {
		if p.Type == elf.PT_LOAD && p.Vaddr <= from && to <= p.Vaddr+p.Memsz {
			code := make([]byte, to-from)
			if _, err := p.ReadAt(code, int64(from-p.Vaddr)); err != nil {
				return nil, fmt.Errorf("read the kernel's text at %#x from /proc/kcore: %w", from, err)
			}
			return code, nil
		}
	}
	return nil, fmt.Errorf("/proc/kcore does not hold the kernel's text at %#x", from)
}

// Disassemble takes the named function apart, with the parts of it that the
// compiler put elsewhere (.cold, .part).
func Disassemble(name string) (*Function, error) {
	table, err := symbols.Load()
	if err != nil {
		return nil, err
	}
	memory, err := openText()
	if err != nil {
		return nil, err
	}
	parts := table.Parts(name)
	if len(parts) == 0 {
		return nil, &NoFunctionError{name}
	}
	f := &Function{Name: name}
	for _, part := range parts {
		code, err := memory.read(part.Addr, table.End(part))
		if err != nil {
			return nil, err
		}
		if err := f.decode(table, part, code); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Reach disassembles root and everything that it calls, directly or not, of
// the same driver: functions whose names begin as root's does, up to the first
// "_", or that belong to the same module; and those whose names begin with one
// of also, wherever they are.
func Reach(root string, also ...string) ([]*Function, error) {
	f, err := Disassemble(root)
	if err != nil {
		return nil, err
	}
	table, err := symbols.Load()
	if err != nil {
		return nil, err
	}
	module := table.Parts(root)[0].Module
	found := []*Function{f}
	known := map[string]bool{root: true}
	for i := 0; i < len(found); i++ {
		for _, callee := range found[i].Calls {
			ours := prefix(callee.Name) == prefix(root) && callee.Module == module ||
				slices.ContainsFunc(also, func(prefix string) bool { return strings.HasPrefix(callee.Name, prefix) })
			if !ours && (module == "" || callee.Module != module) || known[callee.Name] {
				continue
			}
			known[callee.Name] = true
			g, err := Disassemble(callee.Name)
			if err != nil {
				return nil, err
			}
			// Static functions of other files may have the same name.
			g.Points = slices.DeleteFunc(g.Points, func(p Point) bool { return p.Symbol == callee.Raw && p.Addr-p.Offset != callee.Addr })
			found = append(found, g)
		}
	}
	return found, nil
}

// prefix is what the functions of a driver have in common: "tun" of tun_net_xmit, and of
// __tun_wake_queue.
func prefix(name string) string {
	first, _, _ := strings.Cut(strings.TrimLeft(name, "_"), "_")
	return first
}

func (f *Function) called(s symbols.Symbol) {
	if s.Name != f.Name && !slices.ContainsFunc(f.Calls, func(c symbols.Symbol) bool { return c.Name == s.Name && c.Module == s.Module }) {
		f.Calls = append(f.Calls, s)
	}
}

// Critical returns those of the points that matter most to a race: from where a
// function takes a spinlock on, in that function and in what it calls; all of
// them if none takes one.
func Critical(functions []*Function, points []Point) []Point {
	after := make(map[string]uint64) // by symbol: from that offset on
	var called []string
	for _, f := range functions {
		for _, p := range f.Points {
			from, takes := p.Offset, p.TakesSpinlock()
			// Where spin_lock() is inlined, as on arm64 (arch/arm64/Kconfig:
			// ARCH_INLINE_SPIN_LOCK), only the slow path is called, and from
			// anywhere: all of the function counts.
			if strings.Contains(p.Text, "queued_spin_lock_slowpath") {
				from, takes = 0, true
			}
			if takes {
				if at, ok := after[p.Symbol]; !ok || from < at {
					after[p.Symbol] = from
				}
				for _, callee := range f.Calls {
					called = append(called, callee.Raw)
				}
			}
		}
	}
	if len(after) == 0 {
		return points
	}
	return slices.DeleteFunc(slices.Clone(points), func(p Point) bool {
		at, takes := after[p.Symbol]
		return takes && p.Offset < at || !takes && !slices.Contains(called, p.Symbol)
	})
}

// TakesSpinlock says whether the instruction calls what spin_lock() is
// (include/linux/spinlock_api_smp.h, and spinlock_rt.h with CONFIG_PREEMPT_RT).
func (p Point) TakesSpinlock() bool {
	return strings.Contains(p.Text, "_raw_spin_lock") || strings.Contains(p.Text, "rt_spin_lock")
}

var takesLock = regexp.MustCompile(`cmpxchg %\w+,0x([0-9a-f]+)\(%\w+\)`)

// LockOwner is the offset of the owner in a lock, from the instruction by which the
// function that takes it exchanges nobody for the current task.
func (f *Function) LockOwner() (offset uint32, ok bool) {
	for _, p := range f.Points {
		if m := takesLock.FindStringSubmatch(p.Text); m != nil {
			n, err := strconv.ParseUint(m[1], 16, 32)
			return uint32(n), err == nil
		}
	}
	return 0, false
}

// Byte is what the kernel's text holds at an address, with all that is patched.
func Byte(addr uint64) (byte, error) {
	memory, err := openText()
	if err != nil {
		return 0, err
	}
	code, err := memory.read(addr, addr+1)
	if err != nil {
		return 0, err
	}
	return code[0], nil
}

// At returns the running kernel's instruction at "symbol+offset".
func At(place string) (Point, error) {
	symbol, offset, _ := strings.Cut(place, "+")
	f, err := Disassemble(symbol)
	if err != nil {
		return Point{}, err
	}
	at, err := strconv.ParseUint(offset, 0, 64)
	if err != nil {
		return Point{}, err
	}
	for _, p := range f.Points {
		if p.Symbol == symbol && p.Offset == at {
			return p, nil
		}
	}
	return Point{}, fmt.Errorf("no instruction of the running kernel begins at %s", place)
}

// Holding takes the function apart that an address of the kernel's text is in.
func Holding(addr uint64) (*Function, error) {
	table, err := symbols.Load()
	if err != nil {
		return nil, err
	}
	s, ok := table.At(addr)
	if !ok {
		return nil, fmt.Errorf("no function of the running kernel is at %#x", addr)
	}
	f, err := Disassemble(s.Name)
	if err == nil {
		f.Points = slices.DeleteFunc(f.Points, func(p Point) bool { return p.Symbol == s.Raw && p.Addr-p.Offset != s.Addr })
	}
	return f, err
}

// Code takes code apart that is in no symbol table, but in the running kernel's memory.
func Code(name string, addr uint64, bytes int) (*Function, error) {
	code := make([]byte, bytes)
	if err := Read(addr, code); err != nil {
		return nil, err
	}
	table, err := symbols.Load()
	if err != nil {
		return nil, err
	}
	f := &Function{Name: name}
	return f, f.decode(table, symbols.Symbol{Addr: addr, Raw: name, Name: name}, code)
}

// Read reads the running kernel's memory.
func Read(addr uint64, p []byte) error {
	memory, err := openText()
	if err != nil {
		return err
	}
	there, err := memory.read(addr, addr+uint64(len(p)))
	copy(p, there)
	return err
}
