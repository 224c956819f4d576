package ledger

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ringproof/ringproof/internal/guest/tuntap"
)

// symbols are the kernel's functions, by address.
type symbols []symbol

type symbol struct {
	addr uint64
	name string // as its source calls it; " [module]" follows if it has one
}

// loadSymbols reads them once for each process: that takes half a second
// without KVM. The modules that tests use are loaded before the first test.
var loadSymbols = sync.OnceValues(readSymbols)

func readSymbols() (symbols, error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, &tuntap.MissingError{Option: "CONFIG_KALLSYMS", What: "names of kernel functions", Err: err}
	}
	defer f.Close()
	return parseSymbols(f)
}

// parseSymbols reads the format of /proc/kallsyms:
// "ffffffff81000000 T _text" with "\t[module]" behind a module's.
func parseSymbols(r io.Reader) (symbols, error) {
	var syms symbols
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
		name := sourceName(fields[2])
		if len(fields) > 3 {
			name += " " + fields[3]
		}
		syms = append(syms, symbol{addr, name})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read /proc/kallsyms: %w", err)
	}
	if !known {
		// kernel/kallsyms.c: kallsyms_show_value
		return nil, fmt.Errorf("/proc/kallsyms shows no addresses: run as root, with the sysctl kernel.kptr_restrict at 0 or 1")
	}
	slices.SortStableFunc(syms, func(a, b symbol) int {
		switch {
		case a.addr < b.addr:
			return -1
		case a.addr > b.addr:
			return 1
		}
		return 0
	})
	return syms, nil
}

// sourceName strips what the compiler appends to the name of a function that
// it has split or specialised: tun_net_xmit.cold, tun_net_xmit.isra.0.
func sourceName(name string) string {
	if i := strings.IndexByte(name, '.'); i > 0 {
		return name[:i]
	}
	return name
}

// at names the function that holds the return address ret. A call that never
// returns or ends its function leaves an address one past it, so the call's
// own address, one before, is what counts.
func (s symbols) at(ret uint64) string {
	i, _ := slices.BinarySearchFunc(s, ret, func(sym symbol, addr uint64) int {
		if sym.addr < addr {
			return -1
		}
		return 1
	})
	if i == 0 {
		return fmt.Sprintf("%#x", ret)
	}
	return s[i-1].name
}
