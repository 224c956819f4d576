package ledger

import (
	"errors"
	"sync"

	"github.com/cilium/ebpf"
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
	spec, err := countSpec()
	if err != nil {
		return err
	}
	var held []link.Link
	for range 2 {
		// Before 6.10 a program can be attached to a tracepoint once
		// (kernel/tracepoint.c: func_add).
		var nothing struct {
			Program *ebpf.Program `ebpf:"anchor"`
		}
		if err := spec.Copy().LoadAndAssign(&nothing, nil); err != nil {
			return bpfError(err)
		}
		l, err := attachOnce(tracepoint, nothing.Program)
		if err := errors.Join(err, nothing.Program.Close()); err != nil {
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
