package breakpoint

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/order"
	"golang.org/x/sys/unix"
)

// Places is how many instructions a Recorder can watch at once, if nobody else has
// breakpoints on its CPU.
const Places = 4

// Place is an instruction to watch.
type Place struct {
	disasm.Point
	// Operand is what it reads or writes, to be recorded, too; Bytes is 0 if there
	// is nothing.
	Operand order.Operand
	// Again: its operand is that of the first place, when that was executed last.
	Again bool
}

// Record is what a CPU was about to do.
type Record struct {
	order.Registers
	// At is where the operand of the instruction is, and Content what was there, at
	// most 8 bytes.
	At, Content uint64
}

// Recorder records the registers of a CPU each time that it comes by a place. Close
// it when done.
type Recorder struct {
	cpu     int
	objects recordObjects
	touches stopsObjects
	memory  []byte
	shared  *recordRecorder
	events  [Places]int // of perf_event_open(2), -1 while there is none
	set     [Places]uint64
}

// Recorder returns the recorder of a CPU; a process has one at a time.
func (p *Pauser) Recorder(cpu int) (_ *Recorder, err error) {
	r := &Recorder{cpu: cpu, events: [Places]int{-1, -1, -1, -1}}
	shares := &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{"controls": p.objects.Controls}}
	if err := errors.Join(loadRecordObjects(&r.objects, shares), loadStopsObjects(&r.touches, nil)); err != nil {
		return nil, errors.Join(pauseError(err), r.objects.Close(), r.touches.Close())
	}
	size := (int(unsafe.Sizeof(recordRecorder{})) + os.Getpagesize() - 1) &^ (os.Getpagesize() - 1)
	if r.memory, err = unix.Mmap(r.objects.Recorders.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, errors.Join(fmt.Errorf("map the records of a CPU: %w", err), r.objects.Close(), r.touches.Close())
	}
	r.shared = (*recordRecorder)(unsafe.Pointer(&r.memory[0]))
	return r, nil
}

// Close removes its breakpoints.
func (r *Recorder) Close() error {
	var errs []error
	for i := range r.events {
		errs = append(errs, r.remove(i))
	}
	return errors.Join(append(errs, unix.Munmap(r.memory), r.objects.Close(), r.touches.Close())...)
}

func (r *Recorder) remove(i int) (err error) {
	if r.events[i] >= 0 {
		err = unix.Close(r.events[i])
		r.events[i], r.set[i] = -1, 0
	}
	return err
}

// Set moves the recorder to these places, Places at most. It is fastest on the
// recorder's own CPU. Nothing is recorded until Begin.
func (r *Recorder) Set(places []Place) error {
	r.End()
	for i := range r.events {
		if i >= len(places) {
			if err := r.remove(i); err != nil {
				return err
			}
			r.shared.Places[i] = recordPlace{}
			continue
		}
		p := places[i]
		r.shared.Places[i] = recordPlace{
			Pc: p.Addr, Disp: p.Operand.Disp, Base: p.Operand.Base, Index: p.Operand.Index, Scale: p.Operand.Scale, Extend: p.Operand.Extend, Bytes: p.Operand.Bytes,
		}
		if p.Again {
			r.shared.Places[i].Again = 1
		}
		if err := r.move(i, p.Point); err != nil {
			return fmt.Errorf("record the registers of CPU %d at %v: %w", r.cpu, p.Point, err)
		}
	}
	return nil
}

func (r *Recorder) move(i int, p disasm.Point) (err error) {
	if r.set[i] == p.Addr {
		return nil
	}
	attr := Attr(p)
	if r.events[i] >= 0 {
		if moveBreakpoint(r.events[i], &attr) == 0 {
			r.set[i] = p.Addr
			return nil
		}
		if err := r.remove(i); err != nil {
			return err
		}
	}
	event, err := openBreakpoint(&attr, r.cpu, r.objects.RecordAtBreakpoint)
	if noBreakpoint(err) {
		return &CannotHoldError{p, err}
	}
	if err == nil {
		r.events[i], r.set[i] = event, p.Addr
	}
	return err
}

// Begin begins to record what the thread executes, any if task is 0: from when it
// executes the first place for the nth time on, or at once if after is 0. If arms, the
// trap of that CPU, which must have been readied, is armed at that moment.
func (r *Recorder) Begin(task, after int, arms bool) {
	s := r.shared
	s.N, s.Task, s.After, s.Arms = 0, uint32(task), uint32(after), 0
	if arms {
		s.Arms = 1
	}
	on := uint32(0)
	if after == 0 {
		on = 1
	}
	atomic.StoreUint32(&s.On, on)
}

// End ends that, and nothing is armed any more.
func (r *Recorder) End() {
	r.shared.After, r.shared.Arms = 0, 0
	atomic.StoreUint32(&r.shared.On, 0)
}

// Records are what was recorded since Begin, in the order in which it was executed.
// All is false if there was more than could be kept.
func (r *Recorder) Records() (records []Record, all bool) {
	n := int(r.shared.N)
	for i := range min(n, len(r.shared.Records)) {
		records = append(records, record(&r.shared.Records[i]))
	}
	return records, n < len(r.shared.Records)
}

// First is the first record that the ith place made since Begin.
func (r *Recorder) First(i int) (Record, bool) {
	for n := range min(int(r.shared.N), len(r.shared.Records)) {
		if r.shared.Records[n].Registers.Pc == r.set[i] {
			return record(&r.shared.Records[n]), true
		}
	}
	return Record{}, false
}

func record(r *recordRecord) Record {
	g := &r.Registers
	return Record{order.Registers{PC: g.Pc, SP: g.Sp, Flags: g.Flags, Top: g.Top, GPR: g.Gpr}, r.Address, r.Content}
}
