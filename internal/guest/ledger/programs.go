package ledger

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// freeKey is the key of the map that counts; the programs build it on their
// stack, so its layout is theirs.
type freeKey struct {
	Location uint64 // return address into the function that freed
	Reason   uint32 // enum skb_drop_reason, 0 where the tracepoint has none
	Ours     uint32 // 1 if skb->dev is the device under test
}

// lostKey counts events for which the map had no room, caughtKey those that the
// second program counted. They are there from the start, so that counting them
// cannot fail. No event has an Ours of 2 or 3.
var (
	lostKey   = freeKey{Ours: 2}
	caughtKey = freeKey{Ours: 3}
)

// maxKeys is far above the number of places in a kernel that free skbs.
const maxKeys = 4096

// newCounts makes the map. It is one for all CPUs: the programs add to it
// with an atomic instruction, so that neither another CPU nor an interrupt
// can lose an update.
func newCounts() (*ebpf.Map, error) {
	counts, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "freed", Type: ebpf.Hash, KeySize: 16, ValueSize: 8, MaxEntries: maxKeys,
	})
	if err != nil {
		return nil, bpfError(err)
	}
	for _, key := range []freeKey{lostKey, caughtKey} {
		if err := counts.Put(key, uint64(0)); err != nil {
			counts.Close()
			return nil, fmt.Errorf("prepare the map of freed skbs: %w", err)
		}
	}
	return counts, nil
}

// newTurns makes the maps by which the two programs know whose turn it is: the
// skbs that the first has counted and the second has not come to yet, as many
// as CPUs free skbs at once and some more for those that it missed; and, for
// each CPU, the task in which the first is at work, 0 if it is not.
func newTurns() (seen, busy *ebpf.Map, err error) {
	seen, err = ebpf.NewMap(&ebpf.MapSpec{Name: "seen", Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: maxKeys})
	if err == nil {
		busy, err = ebpf.NewMap(&ebpf.MapSpec{Name: "busy", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	}
	if err != nil {
		return seen, nil, bpfError(err)
	}
	return seen, busy, nil
}

// tracepoint says what the raw arguments of one tracepoint hold beyond the
// skb, which is always the first.
type tracepoint struct {
	name                   string
	hasLocation, hasReason bool
}

// Offsets from the frame pointer, and argument n of a raw tracepoint.
const (
	fpDev  = -8
	fpKey  = -24
	fpZero = -32
	fpSkb  = -40
	fpBusy = -48
)

func arg(n int16) int16 { return 8 * n }

// readKernel copies size bytes from where R3 points to fp+to; zeros if that
// address cannot be read, for an skb in an rbtree has no dev.
func readKernel(to int32, size int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, to),
		asm.Mov.Imm(asm.R2, size),
		asm.FnProbeReadKernel.Call(),
	}
}

// lookup leaves a pointer to the value at fpKey in R0, or 0.
func lookup(m *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, fpKey),
		asm.FnMapLookupElem.Call(),
	}
}

// store stores a key whose Location is 0 at fpKey.
func (k freeKey) store() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, fpKey, asm.R1, asm.DWord),
		asm.StoreImm(asm.RFP, fpKey+8, int64(k.Reason), asm.Word),
		asm.StoreImm(asm.RFP, fpKey+12, int64(k.Ours), asm.Word),
	}
}

// turn ends the program if the event is the other's to count. The first notes
// the skb in seen, and leaves it to the second if there is no room; the second
// leaves what is noted alone, unless the first cannot have noted it just now.
func (c *counter) turn(second bool) asm.Instructions {
	ins := asm.Instructions{
		asm.FnGetCurrentTask.Call(),
		asm.Mov.Reg(asm.R9, asm.R0),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, fpZero, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, c.busy.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, fpZero),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
	}
	if second {
		// At work in another task, the first was preempted there, and says
		// nothing about this one: tracepoints no longer disable preemption
		// (include/linux/tracepoint.h in 7.2: srcu_fast_notrace).
		ins = append(ins,
			asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
			asm.Xor.Reg(asm.R9, asm.R1),
		)
	} else {
		ins = append(ins,
			asm.StoreMem(asm.RFP, fpBusy, asm.R0, asm.DWord),
			asm.StoreMem(asm.R0, 0, asm.R9, asm.DWord),
		)
	}
	ins = append(ins,
		asm.LoadMem(asm.R1, asm.R6, arg(0), asm.DWord),
		asm.StoreMem(asm.RFP, fpSkb, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, c.seen.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, fpSkb),
	)
	if !second {
		return append(ins,
			asm.Mov.Reg(asm.R3, asm.R2),
			asm.Mov.Imm(asm.R4, int32(ebpf.UpdateAny)),
			asm.FnMapUpdateElem.Call(),
			asm.JNE.Imm(asm.R0, 0, "out"),
		)
	}
	ins = append(ins,
		asm.FnMapDeleteElem.Call(),
		asm.JEq.Imm(asm.R9, 0, "mine"),
		asm.JEq.Imm(asm.R0, 0, "end"),
	)
	mine := caughtKey.store()
	mine[0] = mine[0].WithSymbol("mine")
	ins = append(ins, mine...)
	ins = append(ins, lookup(c.counts)...)
	return append(ins,
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
	)
}

// countProgram is the first or the second that counts the events of tp in c; or
// the only one, which counts no skbs but the device's own.
func countProgram(tp tracepoint, dev *netDevice, c *counter, second bool) (*ebpf.Program, error) {
	only := c.seen == nil
	other := "key"
	ins := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	if only {
		other = "end"
	} else {
		ins = append(ins, c.turn(second)...)
	}
	ins = append(ins,
		asm.LoadMem(asm.R3, asm.R6, arg(0), asm.DWord),
		asm.Add.Imm(asm.R3, int32(dev.inSkb)),
	)
	ins = append(ins, readKernel(fpDev, 8)...)

	// The key. R8 is "ours", R7 the location, R9 the reason.
	ins = append(ins,
		asm.Mov.Imm(asm.R8, 0),
		asm.LoadMem(asm.R1, asm.RFP, fpDev, asm.DWord),
		asm.LoadImm(asm.R2, int64(dev.addr), asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R2, other),
		asm.Mov.Imm(asm.R8, 1),
		asm.Mov.Imm(asm.R7, 0).WithSymbol("key"),
		asm.Mov.Imm(asm.R9, 0),
	)
	if tp.hasLocation {
		ins = append(ins, asm.LoadMem(asm.R7, asm.R6, arg(1), asm.DWord))
	}
	if tp.hasReason {
		ins = append(ins, asm.LoadMem(asm.R9, asm.R6, arg(2), asm.DWord))
	}
	ins = append(ins,
		asm.StoreMem(asm.RFP, fpKey, asm.R7, asm.DWord),
		asm.StoreMem(asm.RFP, fpKey+8, asm.R9, asm.Word),
		asm.StoreMem(asm.RFP, fpKey+12, asm.R8, asm.Word),
	)

	ins = append(ins, lookup(c.counts)...)
	ins = append(ins,
		asm.JNE.Imm(asm.R0, 0, "add"),
		// The first at this place. Another CPU may be faster: the update
		// then fails, and the entry is there all the same.
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, fpZero, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, c.counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, fpKey),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, fpZero),
		asm.Mov.Imm(asm.R4, int32(ebpf.UpdateNoExist)),
		asm.FnMapUpdateElem.Call(),
	)
	ins = append(ins, lookup(c.counts)...)
	ins = append(ins, asm.JNE.Imm(asm.R0, 0, "add"))
	ins = append(ins, lostKey.store()...)
	ins = append(ins, lookup(c.counts)...)
	ins = append(ins,
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1).WithSymbol("add"),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
	)
	if second || only {
		ins = append(ins, asm.Mov.Imm(asm.R0, 0).WithSymbol("out"))
	} else {
		ins = append(ins,
			asm.LoadMem(asm.R1, asm.RFP, fpBusy, asm.DWord).WithSymbol("out"),
			asm.Mov.Imm(asm.R2, 0),
			asm.StoreMem(asm.R1, 0, asm.R2, asm.DWord),
		)
	}
	ins = append(ins,
		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
		asm.Return(),
	)
	return loadProgram(ebpf.RawTracepoint, "count_"+tp.name, ins)
}

func loadProgram(kind ebpf.ProgramType, name string, ins asm.Instructions) (*ebpf.Program, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         name,
		Type:         kind,
		Instructions: ins,
		// bpf_probe_read_kernel is for programs under the GPL.
		License: "GPL",
	})
	if err != nil {
		return nil, bpfError(err)
	}
	return prog, nil
}

// bpfError names the option whose absence made the kernel refuse a map or a
// program.
func bpfError(err error) error {
	const what = "eBPF programs on tracepoints, which count freed skbs"
	if errors.Is(err, unix.ENOSYS) { // of bpf(2)
		return &kernelfeature.MissingError{Option: "CONFIG_BPF_SYSCALL", What: what, Err: err}
	}
	if errors.Is(features.HaveProgramType(ebpf.RawTracepoint), ebpf.ErrNotSupported) {
		return &kernelfeature.MissingError{Option: "CONFIG_BPF_EVENTS", What: what, Err: err}
	}
	if errors.Is(features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnProbeReadKernel), ebpf.ErrNotSupported) {
		return &kernelfeature.MissingError{Option: "bpf_probe_read_kernel (Linux 5.5)", What: what, Err: err}
	}
	return fmt.Errorf("load an eBPF program or map to count freed skbs: %w", err)
}
