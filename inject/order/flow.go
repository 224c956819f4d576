package order

import "github.com/ringproof/ringproof/inject/disasm"

// Set are registers: bit n is the nth, as Registers numbers them, and bit 32 the flags.
type Set uint64

// flags are the condition flags, as a register.
const flags = 32

func set(registers ...uint32) (s Set) {
	for _, r := range registers {
		s |= 1 << r
	}
	return s
}

// Flow is which registers an instruction computes from which. What it adds to the base
// of its address does not count: that depends on what it has depended on before.
type Flow struct {
	// To is computed from From, each from all.
	From, To Set
	// Address is what the address of its operand is computed from.
	Address Set
	// Loads are filled from memory, and Stores are written there.
	Loads, Stores Set
}

// FlowA64 is the flow of an instruction of arm64, as far as it is known: ok is false if
// not. An instruction that Effect.EndsLoads has a rule for needs none.
func FlowA64(p disasm.Point) (f Flow, ok bool) {
	w, single := word(p)
	if !single {
		return loopFlowA64(p), true
	}
	switch {
	case field(w, 26, 3) == 0b101:
		return systemFlowA64(w), true
	case field(w, 25, 1) == 0 && field(w, 27, 1) == 1:
		return memoryFlowA64(w), field(w, 26, 1) == 0 // SIMD
	case field(w, 26, 3) == 0b100:
		return immediateFlowA64(w), true
	case field(w, 25, 3) == 0b101:
		return registerFlowA64(w)
	}
	return Flow{}, false
}

// plain are those of the registers that are not the zero register.
func plain(registers ...uint32) Set { return set(registers...) &^ set(zr) }

func systemFlowA64(w uint32) Flow {
	switch {
	case field(w, 26, 6) == 0b100101, w&0xfffffc1f == 0xd63f0000: // bl, blr
		return Flow{To: set(30)}
	case w&0xffffffe0 == 0xd53b4200: // mrs of nzcv
		return Flow{From: set(flags), To: plain(field(w, 0, 5))}
	case field(w, 20, 12) == 0xd53: // mrs
		return Flow{To: plain(field(w, 0, 5))}
	}
	return Flow{}
}

func immediateFlowA64(w uint32) Flow {
	d, n := field(w, 0, 5), field(w, 5, 5)
	switch op, opc := field(w, 23, 3), field(w, 29, 2); op {
	case 0, 1: // adr, adrp
		return Flow{To: plain(d)}
	case 2, 3: // add, sub
		if opc&1 == 1 {
			return Flow{From: set(n), To: plain(d) | set(flags)}
		}
		return Flow{From: set(n), To: set(d)}
	case 4: // and, orr, eor
		if opc == 3 {
			return Flow{From: plain(n), To: plain(d) | set(flags)}
		}
		return Flow{From: plain(n), To: set(d)}
	case 5: // movn, movz, movk
		if opc == 3 {
			return Flow{From: plain(d), To: plain(d)}
		}
		return Flow{To: plain(d)}
	case 6: // sbfm, bfm, ubfm
		if opc == 1 {
			return Flow{From: plain(d, n), To: plain(d)}
		}
		return Flow{From: plain(n), To: plain(d)}
	}
	return Flow{From: plain(n, field(w, 16, 5)), To: plain(d)} // extr
}

func registerFlowA64(w uint32) (Flow, bool) {
	d, n, m := field(w, 0, 5), field(w, 5, 5), field(w, 16, 5)
	f := Flow{From: plain(n, m), To: plain(d)}
	switch op, s := field(w, 21, 4), field(w, 29, 1) == 1; {
	case field(w, 28, 1) == 0 && op&8 == 0: // and, orr, eor, bic, of a shifted register
		if field(w, 29, 2) == 3 {
			f.To |= set(flags)
		}
	case field(w, 28, 1) == 0 && op&1 == 1: // add, sub, of an extended register
		f.From |= set(n) // also sp
		if s {
			f.To |= set(flags)
		} else {
			f.To = set(d)
		}
	case field(w, 28, 1) == 0: // add, sub, of a shifted register
		if s {
			f.To |= set(flags)
		}
	case op&8 == 8: // madd, msub, smulh and the like
		f.From |= plain(field(w, 10, 5))
	case op == 0 && field(w, 10, 6) == 0: // adc, sbc
		f.From |= set(flags)
		if s {
			f.To |= set(flags)
		}
	case op == 2: // ccmn, ccmp
		if field(w, 11, 1) == 1 { // an immediate
			f.From = plain(n)
		}
		f.From, f.To = f.From|set(flags), set(flags)
	case op == 4: // csel and the like
		f.From |= set(flags)
	case op == 6 && field(w, 30, 1) == 1: // rbit, rev and the like; pacia reads what it writes
		f.From = plain(d, n)
	case op == 6 && !s: // udiv, lslv and the like
	default:
		return Flow{}, false
	}
	return f, true
}

func memoryFlowA64(w uint32) Flow {
	t, n, t2, m := field(w, 0, 5), field(w, 5, 5), field(w, 10, 5), field(w, 16, 5)
	load := field(w, 22, 1) == 1
	f := Flow{Address: set(n)}
	to := &f.Stores
	switch {
	case field(w, 24, 6) == 0b001000: // exclusive, ordered, compare and swap
		if field(w, 23, 1) == 1 && field(w, 21, 1) == 1 { // cas
			f.Loads, f.Stores = plain(m), plain(m, t)
			return f
		}
		if load {
			to = &f.Loads
		}
	case field(w, 27, 3) == 0b101: // pairs
		if load {
			to = &f.Loads
		}
		*to |= plain(t2)
	case field(w, 24, 2) == 0 && field(w, 21, 1) == 1 && field(w, 10, 2) == 0: // atomic
		f.Loads, f.Stores = plain(t), plain(m)
		return f
	default:
		if field(w, 22, 2) == 2 && field(w, 30, 2) == 3 { // prefetch
			return Flow{}
		}
		if field(w, 22, 2) != 0 {
			to = &f.Loads
		}
		if field(w, 24, 2) == 0 && field(w, 21, 1) == 1 { // a register as offset
			f.Address |= plain(m)
		}
	}
	*to |= plain(t)
	return f
}

// loopFlowA64 is an atomic operation that is made of a load-exclusive and a
// store-exclusive. Whatever is computed in between counts as loaded.
func loopFlowA64(p disasm.Point) (f Flow) {
	for code := p.Code; len(code) >= 4; code = code[4:] {
		one, ok := FlowA64(disasm.Point{Code: code[:4]})
		w, _ := word(disasm.Point{Code: code[:4]})
		if !ok {
			one.To = plain(field(w, 0, 5))
		}
		if field(w, 24, 6) == 0b001000 && field(w, 22, 1) == 0 { // its store says whether it was done
			one.Loads |= plain(field(w, 16, 5))
		}
		f.Address |= one.Address
		f.Stores |= one.Stores
		f.Loads |= one.Loads | one.To
	}
	return f
}

// Loads are loads, by numbers below MaxLoads.
type Loads [MaxLoads / 64]uint64

// MaxLoads is how many loads Dependencies can tell apart.
const MaxLoads = 256

// Has says whether the nth is one of them.
func (l Loads) Has(n int) bool { return l[n/64]>>(n%64)&1 == 1 }

// With are these and the nth.
func (l Loads) With(n int) Loads { l[n/64] |= 1 << (n % 64); return l }

// Or are those of both.
func (l Loads) Or(m Loads) Loads {
	for i := range l {
		l[i] |= m[i]
	}
	return l
}

// Dependencies are what the values in registers and in memory were computed from, since
// a load, which is number 0. What is not known counts as computed from that.
type Dependencies struct {
	registers [flags + 1]Loads
	stores    []stored
}

// stored is what the CPU itself has stored.
type stored struct {
	Location
	from Loads
}

// Nobody is the number of a load of what nobody else writes.
const Nobody = -1

// Execute takes the next instruction into account, which does e at l, and is the nth load
// if it loads. It returns which loads the address was computed from; ok is false if that
// cannot be told.
func (d *Dependencies) Execute(p disasm.Point, e Effect, l Location, n int) (address Loads, ok bool) {
	f, ok := FlowA64(p)
	if !ok {
		return address, false
	}
	address = d.of(f.Address)
	to := d.of(f.From)
	if f.Loads != 0 {
		loaded := address
		switch {
		case n != Nobody:
			loaded = loaded.With(n)
		case !e.Reads: // as a user would
			loaded = loaded.With(0)
		}
		for _, s := range d.stores {
			if s.Overlaps(l) {
				loaded = loaded.Or(s.from)
			}
		}
		if e.Atomic {
			loaded = loaded.With(0)
		}
		d.set(f.Loads, loaded)
	}
	if f.Stores != 0 && e.Writes {
		d.stores = append(d.stores, stored{l, address.Or(d.of(f.Stores))})
	}
	d.set(f.To, to)
	return address, true
}

// Stored says whether the CPU itself has stored there.
func (d *Dependencies) Stored(l Location) bool {
	for _, s := range d.stores {
		if s.Overlaps(l) {
			return true
		}
	}
	return false
}

func (d *Dependencies) of(registers Set) (l Loads) {
	for r := range d.registers {
		if registers>>r&1 == 1 {
			l = l.Or(d.registers[r])
		}
	}
	return l
}

func (d *Dependencies) set(registers Set, l Loads) {
	for r := range d.registers {
		if registers>>r&1 == 1 {
			d.registers[r] = l
		}
	}
}
