package ledger

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// lostKey counts events for which the map had no room, caughtKey those that the
// second program counted.
var (
	lostKey   = countKey{Owner: countOwnerLOST}
	caughtKey = countKey{Owner: countOwnerCAUGHT}
)

// tracepoint says what the raw arguments of one tracepoint hold beyond the
// skb, which is always the first.
type tracepoint struct {
	name                   string
	hasLocation, hasReason bool
}

// The programs of count.bpf.c and device.bpf.c, parsed once.
var (
	countSpec  = sync.OnceValues(loadCount)
	deviceSpec = sync.OnceValues(loadDevice)
)

// load loads those programs and maps that c names.
func (c *counter) load(tp tracepoint, dev *netDevice, only bool) error {
	spec, err := countSpec()
	if err != nil {
		return err
	}
	spec = spec.Copy()
	var set countVariableSpecs
	if err := spec.Assign(&set); err != nil {
		return err
	}
	if err := errors.Join(
		set.Device.Set(dev.addr),
		set.Far.Set(dev.far),
		set.DevInSkb.Set(dev.inSkb),
		set.HasLocation.Set(tp.hasLocation),
		set.HasReason.Set(tp.hasReason),
	); err != nil {
		return err
	}
	if only {
		var one struct {
			Counts *ebpf.Map     `ebpf:"counts"`
			Ours   *ebpf.Program `ebpf:"count_ours"`
		}
		err = spec.LoadAndAssign(&one, nil)
		c.counts, c.progs = one.Counts, []*ebpf.Program{one.Ours}
	} else {
		var two struct {
			countMaps
			First  *ebpf.Program `ebpf:"count_first"`
			Second *ebpf.Program `ebpf:"count_second"`
		}
		err = spec.LoadAndAssign(&two, nil)
		c.counts, c.seen, c.busy, c.progs = two.Counts, two.Seen, two.Busy, []*ebpf.Program{two.First, two.Second}
	}
	if err != nil {
		return bpfError(err)
	}
	for _, key := range []countKey{lostKey, caughtKey} {
		if err := c.counts.Put(key, uint64(0)); err != nil {
			return fmt.Errorf("prepare the map of freed skbs: %w", err)
		}
	}
	return nil
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
