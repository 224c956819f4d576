package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// netDevice is the kernel's struct net_device of the device under test, found
// without debug info.
type netDevice struct {
	addr  uint64 // of the struct
	inSkb int16  // offset of dev in struct sk_buff
}

// skbIfindex is the offset of ifindex in struct __sk_buff
// (include/uapi/linux/bpf.h), which eBPF programs see for an sk_buff.
const skbIfindex = 40

// findDevice finds the device whose index is ifindex in this thread's network
// namespace. Neither a packet nor a counter of the device moves.
func findDevice(ifindex int) (*netDevice, error) {
	inSkb, inDevice, err := fieldOffsets()
	if err != nil {
		return nil, err
	}
	addr, err := deviceAddress(ifindex, inSkb, inDevice)
	if err != nil {
		return nil, err
	}
	return &netDevice{addr: addr, inSkb: inSkb}, nil
}

// fieldOffsets returns the offsets of dev in struct sk_buff and of ifindex in
// struct net_device. It loads a program that reads __sk_buff.ifindex, and asks
// what the kernel made of it: net/core/filter.c translates the one load into
// two, through skb->dev, at this kernel's own offsets.
func fieldOffsets() (dev, ifindex int16, err error) {
	prog, err := loadProgram(ebpf.SchedCLS, "read_ifindex", asm.Instructions{
		asm.LoadMem(asm.R0, asm.R1, skbIfindex, asm.Word),
		asm.Return(),
	})
	if err != nil {
		return 0, 0, err
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return 0, 0, fmt.Errorf("look up how the kernel reads skb->dev: %w", err)
	}
	translated, err := info.Instructions()
	if err != nil {
		return 0, 0, fmt.Errorf("look up how the kernel reads skb->dev: %w", err)
	}
	dev, ifindex, ok := throughDev(translated)
	if !ok {
		return 0, 0, fmt.Errorf("the kernel does not read ifindex through skb->dev as expected: %v", translated)
	}
	return dev, ifindex, nil
}

// throughDev finds the two loads, one of a pointer and one of an int.
func throughDev(translated asm.Instructions) (dev, ifindex int16, ok bool) {
	var pointers, ints int
	for _, in := range translated {
		if in.OpCode.Class() != asm.LdXClass {
			continue
		}
		switch in.OpCode.Size() {
		case asm.DWord:
			dev = in.Offset
			pointers++
		case asm.Word:
			ifindex = in.Offset
			ints++
		}
	}
	return dev, ifindex, pointers == 1 && ints == 1
}

// deviceAddress lets the kernel free an skb of the device, and looks at it
// through the tracepoint that is used for counting later. The skb never comes
// near the device: BPF_PROG_TEST_RUN makes one on behalf of it, runs a program
// on it and frees it by kfree_skb (net/bpf/test_run.c: bpf_prog_test_run_skb).
// That skb->dev->ifindex is the one asked for proves the offsets.
func deviceAddress(ifindex int, inSkb, inDevice int16) (uint64, error) {
	// The program takes what this thread frees.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	found, err := ebpf.NewMap(&ebpf.MapSpec{Name: "found", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return 0, bpfError(err)
	}
	defer found.Close()

	const fpIfindex = fpKey - 8
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetCurrentPidTgid.Call(), // tgid << 32 | pid: of a thread
		asm.LSh.Imm(asm.R0, 32),
		asm.RSh.Imm(asm.R0, 32),
		asm.JNE.Imm(asm.R0, int32(unix.Gettid()), "out"),
		asm.LoadMem(asm.R3, asm.R6, arg(0), asm.DWord),
		asm.Add.Imm(asm.R3, int32(inSkb)),
	}
	ins = append(ins, readKernel(fpDev, 8)...)
	ins = append(ins,
		asm.LoadMem(asm.R3, asm.RFP, fpDev, asm.DWord),
		asm.Add.Imm(asm.R3, int32(inDevice)),
	)
	ins = append(ins, readKernel(fpIfindex, 4)...)
	ins = append(ins,
		asm.LoadMem(asm.R1, asm.RFP, fpIfindex, asm.Word),
		asm.JNE.Imm(asm.R1, int32(ifindex), "out"),
		asm.StoreImm(asm.RFP, fpKey, 0, asm.Word),
	)
	ins = append(ins, lookup(found)...)
	ins = append(ins,
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R1, asm.RFP, fpDev, asm.DWord),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	)
	finder, err := loadProgram(ebpf.RawTracepoint, "find_device", ins)
	if err != nil {
		return 0, err
	}
	defer finder.Close()
	tp, err := attach("kfree_skb", finder)
	if err != nil {
		return 0, err
	}
	defer tp.Close()

	nothing, err := loadProgram(ebpf.SchedCLS, "nothing", asm.Instructions{
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	})
	if err != nil {
		return 0, err
	}
	defer nothing.Close()
	context := make([]byte, skbIfindex+4)
	binary.NativeEndian.PutUint32(context[skbIfindex:], uint32(ifindex))
	if _, err := nothing.Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: context}); err != nil {
		if errors.Is(err, unix.EINVAL) || errors.Is(err, ebpf.ErrNotSupported) {
			return 0, &kernelfeature.MissingError{Option: "BPF_PROG_TEST_RUN with an ifindex (Linux 5.9)", What: "way to find a device by an skb of its own", Err: err}
		}
		return 0, fmt.Errorf("have the kernel free an skb of the device with index %d: %w", ifindex, err)
	}

	var addr uint64
	if err := found.Lookup(uint32(0), &addr); err != nil {
		return 0, fmt.Errorf("look up the device's address: %w", err)
	}
	if addr == 0 {
		return 0, fmt.Errorf("the kernel freed an skb of the device with index %d, but the tracepoint skb:kfree_skb did not show one (read skb->dev at %d, ifindex at %d)", ifindex, inSkb, inDevice)
	}
	return addr, nil
}

// attach is undone by closing the link.
func attach(tracepoint string, prog *ebpf.Program) (link.Link, error) {
	if err := anchor(tracepoint); err != nil {
		return nil, err
	}
	return attachOnce(tracepoint, prog)
}

func attachOnce(tracepoint string, prog *ebpf.Program) (link.Link, error) {
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: prog})
	if errors.Is(err, unix.ENOENT) {
		return nil, &kernelfeature.MissingError{Option: "CONFIG_TRACEPOINTS", What: "tracepoint skb:" + tracepoint, Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("attach to the tracepoint skb:%s: %w", tracepoint, err)
	}
	return l, nil
}
