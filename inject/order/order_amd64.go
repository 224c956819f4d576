package order

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/ringproof/ringproof/inject/disasm"
	"golang.org/x/arch/x86/x86asm"
)

// What an instruction does with its first argument, if that is in memory. All other
// arguments in memory are read.
type first int

const (
	reads first = iota + 1
	writes
	changes
	ignores // computes its address, at most
)

var firsts = func() map[x86asm.Op]first {
	m := make(map[x86asm.Op]first)
	for what, ops := range map[first][]x86asm.Op{
		reads: {
			x86asm.CMP, x86asm.TEST, x86asm.BT, x86asm.MUL, x86asm.IMUL, x86asm.DIV, x86asm.IDIV, x86asm.PUSH, x86asm.CALL, x86asm.JMP,
			// Their first argument is a register.
			x86asm.MOVZX, x86asm.MOVSX, x86asm.MOVSXD, x86asm.BSF, x86asm.BSR, x86asm.BSWAP, x86asm.POPCNT, x86asm.TZCNT, x86asm.LZCNT, x86asm.RDTSC,
			x86asm.CMOVA, x86asm.CMOVAE, x86asm.CMOVB, x86asm.CMOVBE, x86asm.CMOVE, x86asm.CMOVG, x86asm.CMOVGE, x86asm.CMOVL, x86asm.CMOVLE,
			x86asm.CMOVNE, x86asm.CMOVNO, x86asm.CMOVNP, x86asm.CMOVNS, x86asm.CMOVO, x86asm.CMOVP, x86asm.CMOVS,
			x86asm.CBW, x86asm.CWDE, x86asm.CDQE, x86asm.CWD, x86asm.CDQ, x86asm.CQO, x86asm.CLC, x86asm.STC, x86asm.CMC, x86asm.CLD,
			x86asm.LAHF, x86asm.SAHF, x86asm.LEAVE, x86asm.RET, x86asm.CLI, x86asm.STI, x86asm.PUSHFQ, x86asm.POPFQ, x86asm.PAUSE,
		},
		writes: {
			x86asm.MOV, x86asm.POP, x86asm.MOVD, x86asm.MOVQ, x86asm.MOVAPS, x86asm.MOVUPS, x86asm.MOVAPD, x86asm.MOVUPD, x86asm.MOVDQA, x86asm.MOVDQU,
			x86asm.SETA, x86asm.SETAE, x86asm.SETB, x86asm.SETBE, x86asm.SETE, x86asm.SETG, x86asm.SETGE, x86asm.SETL, x86asm.SETLE,
			x86asm.SETNE, x86asm.SETNO, x86asm.SETNP, x86asm.SETNS, x86asm.SETO, x86asm.SETP, x86asm.SETS,
		},
		changes: {
			x86asm.ADD, x86asm.ADC, x86asm.SUB, x86asm.SBB, x86asm.AND, x86asm.OR, x86asm.XOR, x86asm.INC, x86asm.DEC, x86asm.NEG, x86asm.NOT,
			x86asm.SHL, x86asm.SHR, x86asm.SAR, x86asm.ROL, x86asm.ROR, x86asm.RCL, x86asm.RCR, x86asm.SHLD, x86asm.SHRD,
			x86asm.BTS, x86asm.BTR, x86asm.BTC, x86asm.XADD, x86asm.CMPXCHG, x86asm.CMPXCHG8B, x86asm.CMPXCHG16B, x86asm.XCHG,
		},
		ignores: {x86asm.LEA, x86asm.NOP, x86asm.PREFETCHNTA, x86asm.PREFETCHT0, x86asm.PREFETCHT1, x86asm.PREFETCHT2, x86asm.PREFETCHW},
	} {
		for _, op := range ops {
			m[op] = what
		}
	}
	for op := range conditions {
		m[op] = ignores
	}
	return m
}()

// ends are instructions that end each delay.
var ends = map[x86asm.Op]*Rule{
	x86asm.MFENCE: Fence, x86asm.LFENCE: HalfFence, x86asm.SFENCE: HalfFence,
	x86asm.CPUID: Serializing, x86asm.IRET: Serializing, x86asm.IRETD: Serializing, x86asm.IRETQ: Serializing, x86asm.WRMSR: Serializing, x86asm.INVLPG: Serializing,
	x86asm.LGDT: Serializing, x86asm.LIDT: Serializing, x86asm.LLDT: Serializing, x86asm.LTR: Serializing, x86asm.WBINVD: Serializing, x86asm.INVD: Serializing,
	x86asm.IN: Serializing, x86asm.OUT: Serializing,
	x86asm.MOVNTI: Streaming, x86asm.MOVNTDQ: Streaming, x86asm.MOVNTPS: Streaming, x86asm.MOVNTPD: Streaming, x86asm.MOVNTQ: Streaming,
	x86asm.MOVSB: String, x86asm.MOVSW: String, x86asm.MOVSD: String, x86asm.MOVSQ: String,
	x86asm.STOSB: String, x86asm.STOSW: String, x86asm.STOSD: String, x86asm.STOSQ: String,
}

// endbr64 is an instruction that x86asm does not know.
const endbr64 = "\xf3\x0f\x1e\xfa"

// InOrder says whether stores become visible in the order in which they are executed.
const InOrder = true

// Of says what the instruction does.
func Of(p disasm.Point) Effect {
	if p.Code == endbr64 {
		return Effect{}
	}
	in, err := x86asm.Decode([]byte(p.Code), 64)
	if err != nil {
		return Effect{Ends: Unknown}
	}
	what, known := firsts[in.Op]
	e := Effect{Ends: ends[in.Op], Branches: branches(in)}
	for i, arg := range in.Args {
		if reg, ok := arg.(x86asm.Reg); ok && in.Op == x86asm.MOV && reg >= x86asm.CR0 && reg <= x86asm.TR7 {
			e.Ends = Serializing
		}
		mem, ok := arg.(x86asm.Mem)
		if !ok || what == ignores {
			continue
		}
		e.Operand, ok = operand(in, p, mem)
		e.Private = mem.Segment == x86asm.FS || mem.Segment == x86asm.GS
		e.Reads = i > 0 || what != writes
		e.Writes = i == 0 && (what == writes || what == changes) || in.Op == x86asm.XCHG
		if !ok && e.Ends == nil {
			e.Ends = Unknown
		}
		if in.Op == x86asm.XCHG {
			e.Ends = Locked
		}
	}
	if slices.ContainsFunc(in.Prefix[:], func(prefix x86asm.Prefix) bool { return prefix&0xff == x86asm.PrefixLOCK }) {
		e.Ends = Locked
	}
	if !known && e.Ends == nil {
		e.Ends = Unknown
	}
	return e
}

// operand is what an argument in memory is; !ok if its address cannot be told.
func operand(in x86asm.Inst, p disasm.Point, mem x86asm.Mem) (o Operand, ok bool) {
	o = Operand{Base: None, Index: None, Disp: mem.Disp, Bytes: uint8(in.MemBytes)}
	switch {
	case mem.Base == x86asm.RIP:
		o.Disp += int64(p.Addr) + int64(in.Len)
	case mem.Base >= x86asm.RAX && mem.Base <= x86asm.R15:
		o.Base = uint8(mem.Base - x86asm.RAX)
	case mem.Base != 0:
		return o, false
	}
	switch {
	case mem.Index >= x86asm.RAX && mem.Index <= x86asm.R15:
		o.Index, o.Scale = uint8(mem.Index-x86asm.RAX), mem.Scale
	case mem.Index != 0:
		return o, false
	}
	// A bit offset in a register reaches beyond the operand.
	_, reg := in.Args[1].(x86asm.Reg)
	bits := slices.Contains([]x86asm.Op{x86asm.BT, x86asm.BTS, x86asm.BTR, x86asm.BTC}, in.Op)
	return o, o.Bytes > 0 && o.Bytes <= 16 && !(bits && reg)
}

// The flags that conditions look at.
const (
	carry    = 1 << 0
	parity   = 1 << 2
	zero     = 1 << 6
	sign     = 1 << 7
	overflow = 1 << 11
)

var conditions = map[x86asm.Op]func(flags uint64) bool{
	x86asm.JA: func(f uint64) bool { return f&(carry|zero) == 0 }, x86asm.JBE: func(f uint64) bool { return f&(carry|zero) != 0 },
	x86asm.JAE: func(f uint64) bool { return f&carry == 0 }, x86asm.JB: func(f uint64) bool { return f&carry != 0 },
	x86asm.JNE: func(f uint64) bool { return f&zero == 0 }, x86asm.JE: func(f uint64) bool { return f&zero != 0 },
	x86asm.JNO: func(f uint64) bool { return f&overflow == 0 }, x86asm.JO: func(f uint64) bool { return f&overflow != 0 },
	x86asm.JNP: func(f uint64) bool { return f&parity == 0 }, x86asm.JP: func(f uint64) bool { return f&parity != 0 },
	x86asm.JNS: func(f uint64) bool { return f&sign == 0 }, x86asm.JS: func(f uint64) bool { return f&sign != 0 },
	x86asm.JGE: func(f uint64) bool { return !less(f) }, x86asm.JL: less,
	x86asm.JG: func(f uint64) bool { return !less(f) && f&zero == 0 }, x86asm.JLE: func(f uint64) bool { return less(f) || f&zero != 0 },
}

func less(f uint64) bool { return (f&sign != 0) != (f&overflow != 0) }

func branches(in x86asm.Inst) bool {
	_, conditional := conditions[in.Op]
	return conditional || in.Op == x86asm.JMP || in.Op == x86asm.CALL || in.Op == x86asm.RET
}

// Next is where the CPU goes on after an instruction. read reads the kernel's memory.
func Next(p disasm.Point, r *Registers, read func(addr uint64, to []byte) error) (uint64, error) {
	behind := p.Addr + uint64(len(p.Code))
	in, err := x86asm.Decode([]byte(p.Code), 64)
	if err != nil || !branches(in) {
		return behind, nil
	}
	if condition := conditions[in.Op]; condition != nil && !condition(r.Flags) {
		return behind, nil
	}
	if in.Op == x86asm.RET {
		return r.Top, nil
	}
	switch target := in.Args[0].(type) {
	case x86asm.Rel:
		return behind + uint64(int64(target)), nil
	case x86asm.Reg:
		if target >= x86asm.RAX && target <= x86asm.R15 {
			return r.GPR[target-x86asm.RAX], nil
		}
	case x86asm.Mem:
		if o, ok := operand(in, p, target); ok {
			var to [8]byte
			err := read(o.Address(r), to[:])
			return binary.LittleEndian.Uint64(to[:]), err
		}
	}
	return 0, fmt.Errorf("where %v (%s) goes on is not known", p, p.Text)
}

// Ahead are the instructions that may follow, as far as that can be told without
// registers.
func Ahead(p disasm.Point) (addrs []uint64) {
	in, err := x86asm.Decode([]byte(p.Code), 64)
	if err != nil {
		return nil
	}
	behind := p.Addr + uint64(len(p.Code))
	if in.Op != x86asm.JMP && in.Op != x86asm.RET && in.Op != x86asm.CALL {
		addrs = append(addrs, behind)
	}
	if target, ok := in.Args[0].(x86asm.Rel); ok {
		addrs = append(addrs, behind+uint64(int64(target)))
	}
	return addrs
}

// stack is how many bytes of kernel stack a task has at least, and what its address
// is a multiple of (arch/x86/include/asm/page_64_types.h: THREAD_SIZE).
const stack = 16 << 10

// OnStack says whether the address is on the CPU's stack.
func OnStack(addr uint64, r *Registers) bool { return addr/stack == r.SP/stack }
