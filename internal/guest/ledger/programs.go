package ledger

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sys/unix"
)

// freeKey is the key of the map that counts; the programs build it on their
// stack, so its layout is theirs.
type freeKey struct {
	Location uint64 // return address into the function that freed
	Reason   uint32 // enum skb_drop_reason, 0 where the tracepoint has none
	Ours     uint32 // 1 if skb->dev is the device under test
}

// lostKey counts events for which the map had no room. It is there from the
// start, so that counting it cannot fail. No event has an Ours of 2.
var lostKey = freeKey{Ours: 2}

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
	if err := counts.Put(lostKey, uint64(0)); err != nil {
		counts.Close()
		return nil, fmt.Errorf("prepare the map of freed skbs: %w", err)
	}
	return counts, nil
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

// countProgram counts every event of tp in counts.
func countProgram(tp tracepoint, dev *netDevice, counts *ebpf.Map) (*ebpf.Program, error) {
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R3, asm.R6, arg(0), asm.DWord),
		asm.Add.Imm(asm.R3, int32(dev.inSkb)),
	}
	ins = append(ins, readKernel(fpDev, 8)...)

	// The key. R8 is "ours", R7 the location, R9 the reason.
	ins = append(ins,
		asm.Mov.Imm(asm.R8, 0),
		asm.LoadMem(asm.R1, asm.RFP, fpDev, asm.DWord),
		asm.LoadImm(asm.R2, int64(dev.addr), asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R2, "key"),
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

	ins = append(ins, lookup(counts)...)
	ins = append(ins,
		asm.JNE.Imm(asm.R0, 0, "add"),
		// The first at this place. Another CPU may be faster: the update
		// then fails, and the entry is there all the same.
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, fpZero, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, fpKey),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, fpZero),
		asm.Mov.Imm(asm.R4, int32(ebpf.UpdateNoExist)),
		asm.FnMapUpdateElem.Call(),
	)
	ins = append(ins, lookup(counts)...)
	ins = append(ins,
		asm.JNE.Imm(asm.R0, 0, "add"),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, fpKey, asm.R1, asm.DWord),
		asm.StoreImm(asm.RFP, fpKey+8, int64(lostKey.Reason), asm.Word),
		asm.StoreImm(asm.RFP, fpKey+12, int64(lostKey.Ours), asm.Word),
	)
	ins = append(ins, lookup(counts)...)
	ins = append(ins,
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1).WithSymbol("add"),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
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
		return &tuntap.MissingError{Option: "CONFIG_BPF_SYSCALL", What: what, Err: err}
	}
	if errors.Is(features.HaveProgramType(ebpf.RawTracepoint), ebpf.ErrNotSupported) {
		return &tuntap.MissingError{Option: "CONFIG_BPF_EVENTS", What: what, Err: err}
	}
	if errors.Is(features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnProbeReadKernel), ebpf.ErrNotSupported) {
		return &tuntap.MissingError{Option: "bpf_probe_read_kernel (Linux 5.5)", What: what, Err: err}
	}
	return fmt.Errorf("load an eBPF program or map to count freed skbs: %w", err)
}
