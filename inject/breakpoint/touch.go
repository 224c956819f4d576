package breakpoint

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/ringproof/ringproof/inject/order"
	"golang.org/x/sys/unix"
)

// breakpointRW is HW_BREAKPOINT_RW (include/uapi/linux/hw_breakpoint.h).
const breakpointRW = 3

// Touches counts how often a CPU reads or writes a location in the kernel's memory.
// Close it when done.
type Touches struct {
	recorder *Recorder
	before   uint64
	events   []int
}

// CountTouches begins to count; one at a time does. The program is the recorder's: to
// free one takes the kernel a flush of all CPUs' TLBs, some time later, and whatever
// runs where it is done would then wait for a CPU that is held up.
func (r *Recorder) CountTouches(cpu int, where order.Location) (_ *Touches, err error) {
	t := &Touches{recorder: r}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("count who reads and writes %v: %w", where, err), t.Close())
		}
	}()
	if err := r.touches.Stops.Get(&t.before); err != nil {
		return nil, err
	}
	for _, attr := range watchpoints(where) {
		event, err := openBreakpoint(&attr, cpu, r.touches.CountStop)
		if err != nil {
			return nil, err
		}
		t.events = append(t.events, event)
	}
	return t, nil
}

// watchpoints are the breakpoints that a location needs: each is at a multiple of its
// length.
func watchpoints(where order.Location) (attrs []unix.PerfEventAttr) {
	for at := where.Addr &^ 7; at < where.Addr+uint64(where.Bytes); at += 8 {
		from, to := max(at, where.Addr), min(at+8, where.Addr+uint64(where.Bytes))
		length := uint64(8)
		for length > 1 && from&^(length/2-1)+length/2 >= to {
			length /= 2
		}
		attr := unix.PerfEventAttr{
			Type: unix.PERF_TYPE_BREAKPOINT, Sample: 1, Bp_type: breakpointRW, Ext1: from &^ (length - 1), Ext2: length, Bits: unix.PerfBitExcludeHv,
		}
		attr.Size = uint32(unsafe.Sizeof(attr))
		attrs = append(attrs, attr)
	}
	return attrs
}

// Move begins to count anew, at another location, and says whether it can: both must need
// as many breakpoints. Another CPU may be held up meanwhile. To open or to close a
// breakpoint would wait for it (kernel/events/hw_breakpoint.c: bp_constraints_lock).
func (t *Touches) Move(where order.Location) (bool, error) {
	attrs := watchpoints(where)
	if len(attrs) != len(t.events) {
		return false, nil
	}
	for i, event := range t.events {
		if errno := moveBreakpoint(event, &attrs[i]); errno != 0 {
			return false, fmt.Errorf("count who reads and writes %v: move a breakpoint: %w", where, errno)
		}
	}
	return true, t.recorder.touches.Stops.Get(&t.before)
}

// Count is how often so far.
func (t *Touches) Count() (n uint64, err error) {
	err = t.recorder.touches.Stops.Get(&n)
	return n - t.before, err
}

// Close ends the count.
func (t *Touches) Close() error {
	var errs []error
	for _, event := range t.events {
		errs = append(errs, unix.Close(event))
	}
	return errors.Join(errs...)
}
