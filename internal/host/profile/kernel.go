package profile

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Kernel knows the functions of a kernel by their addresses. It must have been
// booted with "nokaslr".
type Kernel struct {
	vmlinux string
	symbols []elf.Symbol // of its text, by address
}

// OpenKernel reads a vmlinux.
func OpenKernel(vmlinux string) (*Kernel, error) {
	f, err := elf.Open(vmlinux)
	if err != nil {
		return nil, fmt.Errorf("VMLINUX: read %s: %w", vmlinux, err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("VMLINUX: read the symbols of %s: %w", vmlinux, err)
	}
	symbols = slices.DeleteFunc(symbols, func(s elf.Symbol) bool {
		text := int(s.Section) < len(f.Sections) && f.Sections[s.Section].Flags&elf.SHF_EXECINSTR != 0
		kind := elf.ST_TYPE(s.Info)
		// What is written in assembly has no type (include/linux/linkage.h:
		// SYM_CODE_START).
		return !text || kind != elf.STT_FUNC && kind != elf.STT_NOTYPE
	})
	// Of several names for one address, the last is used: that of a function.
	slices.SortFunc(symbols, func(a, b elf.Symbol) int {
		return cmp.Or(cmp.Compare(a.Value, b.Value), cmp.Compare(elf.ST_TYPE(a.Info), elf.ST_TYPE(b.Info)), cmp.Compare(b.Name, a.Name))
	})
	return &Kernel{vmlinux, symbols}, nil
}

// notInVmlinux stands for what a vmlinux does not have.
const notInVmlinux = "[modules, BPF]"

// function names the one at an address. What the compiler has split a function
// into has that function's name.
func (k *Kernel) function(addr uint64) string {
	i := sort.Search(len(k.symbols), func(i int) bool { return k.symbols[i].Value > addr }) - 1
	if i < 0 {
		return notInVmlinux
	}
	s := k.symbols[i]
	// Between two functions is nothing that is executed, and behind the last no
	// more than a page of the text.
	if i == len(k.symbols)-1 && addr >= s.Value+max(s.Size, 4096) {
		return notInVmlinux
	}
	return base(s.Name)
}

// base is a function's name in the source: gcc adds ".cold", ".isra.0", ".part.0".
func base(name string) string {
	name, _, _ = strings.Cut(name, ".")
	return name
}

// entry is what plugin.c calls a function, or the first instruction of a path.
func entry(name string) string {
	switch {
	case name == "asm_common_interrupt", name == "asm_spurious_interrupt", strings.HasPrefix(name, "asm_sysvec_"):
		return "interrupt"
	case strings.HasPrefix(name, "asm_exc_"):
		return "exception"
	case strings.HasSuffix(name, ".cold"):
		return ""
	}
	switch base(name) {
	case "handle_softirqs", "__do_softirq":
		return "softirq"
	case "ret_from_fork_asm", "ret_from_fork":
		return "fork"
	case "__switch_to_asm":
		return "switch"
	case "do_idle", "cpu_startup_entry":
		return "idle"
	case "pktgen_thread_worker":
		return "producer"
	case "tun_chr_read_iter", "tun_recvmsg":
		return "consumer"
	}
	return ""
}

// entries is the file of that name that the plugin reads.
func (k *Kernel) entries() ([]byte, error) {
	var text bytes.Buffer
	found := make(map[string]bool)
	for _, s := range k.symbols {
		what := entry(s.Name)
		if what == "" {
			continue
		}
		// Before 6.6 the first instruction of a task is ret_from_fork's; since
		// then that is a function in C, which it calls (arch/x86/kernel/process.c).
		found[what] = true
		fmt.Fprintf(&text, "%s %x\n", what, s.Value)
	}
	for _, what := range []string{"softirq", "interrupt", "exception", "fork", "switch", "idle"} {
		if !found[what] {
			return nil, fmt.Errorf("VMLINUX: %s has no symbol that says where it begins with %q; it must not be stripped", k.vmlinux, what)
		}
	}
	return text.Bytes(), nil
}
