// Package symbols finds the functions of the running kernel.
package symbols

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ErrNoKallsyms says that the kernel has no /proc/kallsyms.
var ErrNoKallsyms = errors.New("no /proc/kallsyms: the kernel lacks CONFIG_KALLSYMS")

// Table is the kernel's functions, by address. Functions that stand at one
// address, aliases, are all in it.
type Table []Symbol

// Symbol is one function, or the part of one that the compiler put elsewhere.
type Symbol struct {
	Addr uint64
	// Raw is its name in /proc/kallsyms; Name strips what the compiler
	// appends: tun_net_xmit.cold, tun_net_xmit.isra.0.
	Raw, Name string
	Module    string // "" if it is built in
}

// Load reads the table, once for each process: that takes half a second
// without KVM. The modules that tests use are loaded before the first test.
var Load = sync.OnceValues(load)

func load() (Table, error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoKallsyms, err)
	}
	defer f.Close()
	return parse(f)
}

// parse reads the format of /proc/kallsyms:
// "ffffffff81000000 T _text" with "\t[module]" behind a module's.
func parse(r io.Reader) (Table, error) {
	var t Table
	known := false
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			return nil, fmt.Errorf("/proc/kallsyms: line %q has no address, type and name", lines.Text())
		}
		if !strings.ContainsAny(fields[1], "tTwW") {
			continue
		}
		addr, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/kallsyms: line %q: %w", lines.Text(), err)
		}
		known = known || addr != 0
		s := Symbol{Addr: addr, Raw: fields[2], Name: fields[2]}
		if i := strings.IndexByte(s.Raw, '.'); i > 0 {
			s.Name = s.Raw[:i]
		}
		if len(fields) > 3 {
			s.Module = strings.Trim(fields[3], "[]")
		}
		t = append(t, s)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read /proc/kallsyms: %w", err)
	}
	if !known {
		// kernel/kallsyms.c: kallsyms_show_value
		return nil, fmt.Errorf("/proc/kallsyms shows no addresses: run as root, with the sysctl kernel.kptr_restrict at 0 or 1")
	}
	slices.SortStableFunc(t, func(a, b Symbol) int { return cmp.Compare(a.Addr, b.Addr) })
	return t, nil
}

// after is the index of the first symbol that begins at addr or beyond.
func (t Table) after(addr uint64) int {
	i, _ := slices.BinarySearchFunc(t, addr, func(s Symbol, addr uint64) int {
		if s.Addr < addr {
			return -1
		}
		return 1
	})
	return i
}

// Caller names the function that holds the return address ret; " [module]"
// follows if it is in one. A call that never returns or ends its function
// leaves an address one past it, so the call's own address, one before, is
// what counts.
func (t Table) Caller(ret uint64) string {
	i := t.after(ret)
	if i == 0 {
		return fmt.Sprintf("%#x", ret)
	}
	s := t[i-1]
	if s.Module != "" {
		return s.Name + " [" + s.Module + "]"
	}
	return s.Name
}

// At returns the symbol that the instruction at addr belongs to.
func (t Table) At(addr uint64) (Symbol, bool) {
	i := t.after(addr + 1)
	if i == 0 {
		return Symbol{}, false
	}
	return t[i-1], true
}

// Parts returns the symbols of the function of that name: itself first, and
// then what the compiler split from it. Several functions may share a name.
func (t Table) Parts(name string) []Symbol {
	var parts []Symbol
	for _, s := range t {
		if s.Raw == name || s.Name == name {
			parts = append(parts, s)
		}
	}
	slices.SortStableFunc(parts, func(a, b Symbol) int {
		return cmp.Compare(len(a.Raw), len(b.Raw))
	})
	return parts
}

// End is where the next function begins: s ends there or, with padding
// between the two, before.
func (t Table) End(s Symbol) uint64 {
	i := t.after(s.Addr + 1)
	if i == len(t) {
		return s.Addr
	}
	return t[i].Addr
}
