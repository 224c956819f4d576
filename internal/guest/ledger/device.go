package ledger

import (
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
	far   uint64 // of that of the device at the other end; 0 if there is none
	inSkb uint32 // offset of dev in struct sk_buff
}

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
func fieldOffsets() (dev, ifindex uint32, err error) {
	spec, err := deviceSpec()
	if err != nil {
		return 0, 0, err
	}
	var reads struct {
		Ifindex *ebpf.Program `ebpf:"read_ifindex"`
	}
	if err := spec.Copy().LoadAndAssign(&reads, nil); err != nil {
		return 0, 0, bpfError(err)
	}
	defer reads.Ifindex.Close()
	info, err := reads.Ifindex.Info()
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
func throughDev(translated asm.Instructions) (dev, ifindex uint32, ok bool) {
	var pointers, ints int
	for _, in := range translated {
		if in.OpCode.Class() != asm.LdXClass {
			continue
		}
		switch in.OpCode.Size() {
		case asm.DWord:
			dev = uint32(in.Offset)
			pointers++
		case asm.Word:
			ifindex = uint32(in.Offset)
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
func deviceAddress(ifindex int, inSkb, inDevice uint32) (uint64, error) {
	// The program takes what this thread frees.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	spec, err := deviceSpec()
	if err != nil {
		return 0, err
	}
	spec = spec.Copy()
	var set deviceVariableSpecs
	if err := spec.Assign(&set); err != nil {
		return 0, err
	}
	if err := errors.Join(
		set.Thread.Set(uint32(unix.Gettid())),
		set.Ifindex.Set(uint32(ifindex)),
		set.InSkb.Set(inSkb),
		set.InDevice.Set(inDevice),
	); err != nil {
		return 0, err
	}
	var find struct {
		Device  *ebpf.Program  `ebpf:"find_device"`
		Nothing *ebpf.Program  `ebpf:"nothing"`
		Found   *ebpf.Variable `ebpf:"found"`
	}
	if err := spec.LoadAndAssign(&find, nil); err != nil {
		return 0, bpfError(err)
	}
	defer find.Device.Close()
	defer find.Nothing.Close()
	tp, err := attach("kfree_skb", find.Device)
	if err != nil {
		return 0, err
	}
	defer tp.Close()

	if _, err := find.Nothing.Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: deviceContext{Ifindex: uint32(ifindex)}}); err != nil {
		if errors.Is(err, unix.EINVAL) || errors.Is(err, ebpf.ErrNotSupported) {
			return 0, &kernelfeature.MissingError{Option: "BPF_PROG_TEST_RUN with an ifindex (Linux 5.9)", What: "way to find a device by an skb of its own", Err: err}
		}
		return 0, fmt.Errorf("have the kernel free an skb of the device with index %d: %w", ifindex, err)
	}

	var addr uint64
	if err := find.Found.Get(&addr); err != nil {
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
