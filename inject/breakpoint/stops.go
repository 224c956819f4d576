package breakpoint

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/ringproof/ringproof/inject/disasm"
	"golang.org/x/sys/unix"
)

// Stops counts how often a stopped queue is woken, of any device: once the
// queue runs again, that is how often it was stopped. To stop one is a single
// instruction in the midst of a driver. To wake one is a function of the
// kernel's, which goes on to schedule the qdisc only if the queue was stopped
// (net/core/dev.c: netif_tx_wake_queue), and that is where a breakpoint counts.
type Stops struct {
	objects stopsObjects
	events  []int
}

// CountStops begins to count.
func CountStops() (_ *Stops, err error) {
	const waker, schedules = "netif_tx_wake_queue", "__netif_schedule"
	f, err := disasm.Disassemble(waker)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(f.Points, func(p disasm.Point) bool { return strings.Contains(p.Text, schedules) })
	if i < 0 {
		return nil, fmt.Errorf("count how often queues are stopped: %s does not call %s", waker, schedules)
	}
	s := &Stops{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("count how often queues are stopped: %w", err), s.Close())
		}
	}()
	if err := unthrottle(); err != nil {
		return nil, err
	}
	if err := loadStopsObjects(&s.objects, nil); err != nil {
		return nil, pauseError(err)
	}
	attr := Attr(f.Points[i])
	for cpu := range runtime.NumCPU() {
		event, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("a breakpoint on CPU %d at %v: %w", cpu, f.Points[i], err)
		}
		s.events = append(s.events, event)
		if err := unix.IoctlSetInt(event, unix.PERF_EVENT_IOC_SET_BPF, s.objects.CountStop.FD()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Count is how often so far.
func (s *Stops) Count() (n uint64, err error) {
	err = s.objects.Stops.Get(&n)
	return n, err
}

// Close ends the count.
func (s *Stops) Close() error {
	var errs []error
	for _, event := range s.events {
		errs = append(errs, unix.Close(event))
	}
	return errors.Join(append(errs, s.objects.Close())...)
}

// Attr is what stops a CPU at an instruction, for perf_event_open(2).
func Attr(p disasm.Point) unix.PerfEventAttr {
	attr := unix.PerfEventAttr{
		Type:    unix.PERF_TYPE_BREAKPOINT,
		Sample:  1,
		Bp_type: breakpointX,
		Ext1:    p.Addr,
		Ext2:    uint64(unsafe.Sizeof(uintptr(0))), // len; any other is refused for X
		Bits:    unix.PerfBitExcludeHv,
	}
	attr.Size = uint32(unsafe.Sizeof(attr))
	return attr
}
