package ledger

import (
	"errors"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// anchors holds, for each tracepoint, two programs that do nothing and stay
// attached for as long as this process lives.
//
// The kernel patches its own text when the first or the second function is
// added to a tracepoint or removed from it, and not beyond
// (kernel/tracepoint.c: tracepoint_add_func). QEMU without KVM loses a race
// there now and then: a CPU executes the breakpoint that stands in for the
// instruction after it is gone, and the guest dies of "Oops: int3". With the
// anchors that is risked once in a VM, and not twice in each test.
var anchors struct {
	mu sync.Mutex
	of map[string][]link.Link // by tracepoint; kept, or they would be closed
}

func anchor(tracepoint string) error {
	anchors.mu.Lock()
	defer anchors.mu.Unlock()
	if anchors.of[tracepoint] != nil {
		return nil
	}
	var held []link.Link
	for range 2 {
		// Before 6.10 a program can be attached to a tracepoint once
		// (kernel/tracepoint.c: func_add).
		nothing, err := loadProgram(ebpf.RawTracepoint, "anchor", asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()})
		if err != nil {
			return err
		}
		l, err := attachOnce(tracepoint, nothing)
		if err := errors.Join(err, nothing.Close()); err != nil {
			return err
		}
		held = append(held, l)
	}
	if anchors.of == nil {
		anchors.of = make(map[string][]link.Link)
	}
	anchors.of[tracepoint] = held
	return nil
}
