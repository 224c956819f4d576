package vm

import (
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"sort"
)

// symbols lists the functions of an ELF file by address; none of "".
func symbols(vmlinux string) ([]elf.Symbol, error) {
	if vmlinux == "" {
		return nil, nil
	}
	f, err := elf.Open(vmlinux)
	if err != nil {
		return nil, fmt.Errorf("read symbols: %w", err)
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("read symbols of %s: %w", vmlinux, err)
	}
	functions := slices.DeleteFunc(all, func(s elf.Symbol) bool { return elf.ST_TYPE(s.Info) != elf.STT_FUNC })
	slices.SortFunc(functions, func(a, b elf.Symbol) int { return cmp.Compare(a.Value, b.Value) })
	return functions, nil
}

// name is the function at an address and the offset in it, as the kernel
// writes it; "" if that is not known.
func name(functions []elf.Symbol, pc uint64) string {
	i := sort.Search(len(functions), func(i int) bool { return functions[i].Value > pc }) - 1
	if i < 0 || pc >= functions[i].Value+functions[i].Size {
		return ""
	}
	return fmt.Sprintf("%s+%#x/%#x", functions[i].Name, pc-functions[i].Value, functions[i].Size)
}
