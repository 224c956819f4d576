package schedule

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/memory"
	"github.com/ringproof/ringproof/inject/order"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"golang.org/x/sys/unix"
)

// Store is an interleaving in which a store of one side becomes visible late. The first
// side acts until it is held up. The second side acts until it has executed the store
// and, behind it, the load. The first goes on to its end, and sees what was there
// before the store. Then the store becomes visible, and the second side goes on.
//
// That is what a CPU does whose stores wait in a buffer. What each side does is as with
// a Pair. Or the CPU executes a load early: see Early.
type Store struct {
	First       disasm.Point
	Store, Load Step
	// Early says more of Load if that is executed before a load that comes before it,
	// which is Store then; nil if Store becomes visible late.
	Early *Early
	// ConsumerFirst: the first is the consumer. Else the producer is.
	ConsumerFirst bool
	driver.Setup
}

// Step is one execution of an instruction.
type Step struct {
	disasm.Point
	// Nth: a store, or an earlier load, is executed for the nth time since its side
	// began, the instruction behind a load for the nth time since the store, and a load
	// that is early for the nth time since the earlier one.
	Nth int
}

func (s Step) String() string {
	if s.Nth == 1 {
		return s.Point.String()
	}
	return fmt.Sprintf("%v:%d", s.Point, s.Nth)
}

// With is the schedule with a load of its window.
func (s Store) With(l Load) Store {
	s.Load = l.Step
	if s.Early != nil {
		s.Early = &l.Early
	}
	return s
}

// sides are who is first, and who is second.
func (s Store) sides() [2]string {
	if s.ConsumerFirst {
		return [2]string{contract.Consumer, contract.Producer}
	}
	return [2]string{contract.Producer, contract.Consumer}
}

// Setting is where it is tried.
func (s Store) Setting() stage.Setting { return Pair{Setup: s.Setup}.Setting() }

// String is the store schedule's id, that of a pair whose second side delays a store:
// "tun_net_xmit+0x1cb&__ptr_ring_consume+0x51~tun_do_read+0x1f0/ring=1/fq_codel". With an
// @ between the two, the last is a load that is executed before the other.
func (s Store) String() string {
	passes := late
	if s.Early != nil {
		passes = early
	}
	return fmt.Sprintf("%v&%v%s%v/ring=%d/%s%s", s.First, s.Store, passes, s.Load, s.Ring, s.Qdisc, s.Setting().Suffix())
}

// ParseStore returns the store schedule of that id, of a driver's device; the
// instructions must be the running kernel's.
func ParseStore(drv *driver.Driver, id string) (Store, error) {
	m := storeID.FindStringSubmatch(id)
	if m == nil {
		return Store{}, fmt.Errorf("%q is no delayed store: one looks like tun_net_xmit+0x1cb&__ptr_ring_consume+0x51~tun_do_read+0x1f0/ring=1/fq_codel", id)
	}
	at, left, err := parseSetting(drv, m[5:])
	if err == nil && (left || at.Woken || at.Trim > 0) {
		err = errors.New("a delayed store has no left=, woken or trim=")
	}
	if err != nil {
		return Store{}, fmt.Errorf("schedule %s: %w", id, err)
	}
	s := Store{Setup: at.Setup}
	if m[3] == early {
		s.Early = &Early{}
	}
	steps := []*Step{{}, &s.Store, &s.Load}
	sides := make(map[bool][]disasm.Point) // by whether the side consumes
	for _, target := range drv.Targets {
		if target.Consumer != s.Consumer {
			continue
		}
		functions, err := sharing(target)
		if err != nil {
			return s, fmt.Errorf("schedule %s: %w", id, err)
		}
		for _, f := range functions {
			sides[target.Consumes] = append(sides[target.Consumes], f.Points...)
		}
	}
	for i, text := range []string{m[1], m[2], m[4]} {
		place, nth, counted := strings.Cut(text, ":")
		steps[i].Nth = 1
		if counted {
			steps[i].Nth, _ = strconv.Atoi(nth)
		}
		// Static functions of other files may have the same name as one of these.
		is := func(p disasm.Point) bool { return p.String() == place }
		of := slices.Concat(sides[true], sides[false])
		if n := slices.IndexFunc(of, is); n >= 0 {
			steps[i].Point = of[n]
		} else if steps[i].Point, err = disasm.At(place); err != nil {
			return s, fmt.Errorf("schedule %s: %w", id, err)
		}
	}
	s.First, s.ConsumerFirst = steps[0].Point, slices.Contains(sides[false], s.Store.Point)
	return s, nil
}

// pointAt returns the instruction at an address of the kernel's text.
func pointAt(addr uint64) (disasm.Point, error) {
	f, err := disasm.Holding(addr)
	if err != nil {
		return disasm.Point{}, err
	}
	for _, p := range f.Points {
		if p.Addr == addr {
			return p, nil
		}
	}
	return disasm.Point{}, fmt.Errorf("no instruction of %s begins at %#x", f.Name, addr)
}

// longestStore is how many bytes a store has at most that is delayed.
const longestStore = 8

// Delay is what came of delaying a store.
type Delay struct {
	// At is the location, Old what was there before the store, and New what it has
	// stored.
	At       order.Location
	Old, New uint64
	// Prevented is why the store was not delayed, or the load not executed early; "" if
	// it was.
	Prevented string
	// Touched: the first side came by what is watched.
	Touched bool
}

// What keeps a store from being delayed, or a load from being early, apart from the rules
// of the hardware.
const (
	unmapped    = "not in the direct map" // memory.NotMappedError
	overwritten = "somebody else stored there"
)

// Uncollected keeps Go's garbage collector from running, until the function that it
// returns is called. The collector may wait for a thread that is held up, and with it
// whoever is to let that go on. What it has freed is given back to the kernel at once: a
// thread that does so later waits for each CPU to flush its TLB, and keeps the
// controller from its own CPU meanwhile.
func Uncollected() (end func()) {
	debug.FreeOSMemory()
	percent := debug.SetGCPercent(-1)
	return func() { debug.SetGCPercent(percent) }
}

// stores opens what store schedules need beyond pairs. What the kernel lacks is a
// *kernelfeature.MissingError.
func (r *Runner) stores() (err error) {
	if r.memory == nil {
		m, err := memory.Open()
		if err != nil {
			return err
		}
		// A page that was read before it is written is another page from then on, and
		// each CPU has to flush its TLB first (mm/memory.c: wp_page_copy). The
		// controller must not wait for that. Pages that are locked are there, to be
		// written.
		if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
			return errors.Join(fmt.Errorf("lock the memory of whoever releases CPUs: %w", err), m.Close())
		}
		r.memory = m
	}
	if r.recorder == nil {
		r.recorder, err = r.pauser.Recorder(victimCPU)
	}
	return err
}

// RunStore runs a store schedule once, as Run runs a schedule. It is reached if the
// first was held up, and the second executed the store and the load meanwhile. Call it
// between Uncollected and its end.
func (r *Runner) RunStore(s Store, patience time.Duration) (*stage.Result, *Delay, error) {
	if r.Begins != nil {
		r.Begins(s.String())
	}
	behind, err := pointAt(s.Load.Addr + uint64(len(s.Load.Code)))
	if err != nil {
		return nil, nil, err
	}
	if s.Early != nil {
		d := &Delay{}
		result, err := r.overlap(s, r.earlier(s, d, behind), patience)
		return result, d, err
	}
	return r.delayed(s, Step{behind, s.Load.Nth}, patience)
}

// delayed runs the schedule with the second side held up at an instruction, at its nth
// execution since the store.
func (r *Runner) delayed(s Store, at Step, patience time.Duration) (*stage.Result, *Delay, error) {
	next, err := pointAt(s.Store.Addr + uint64(len(s.Store.Code)))
	if err != nil {
		return nil, nil, err
	}
	operand := order.Of(s.Store.Point).Operand
	for try := 1; ; try++ {
		d := &Delay{}
		result, err := r.overlap(s, meanwhile{
			places: []breakpoint.Place{{Point: s.Store.Point, Operand: operand}, {Point: next, Operand: operand, Again: true}},
			after:  s.Store.Nth, trap: at.Point, passes: at.Nth - 1, holds: "has executed the store and the load, and is held up",
			act: func(result *stage.Result, goOn func()) error { return r.delay(s, d, result, goOn) },
		}, patience)
		if try == tries || !errors.Is(err, errNotRecorded) {
			return result, d, err
		}
	}
}

// errNotRecorded says that a breakpoint was missed. Memory is as it was then.
var errNotRecorded = errors.New("the store was not recorded")

// delay undoes the store in memory, lets the first side go on to its end, and does the
// store again. Whatever the first has stored there meanwhile is overwritten, as it is
// by a store that leaves its buffer; an atomic instruction changes its bits of that.
func (r *Runner) delay(s Store, d *Delay, result *stage.Result, goOn func()) error {
	store, _ := r.recorder.First(0)
	behind, ok := r.recorder.First(1)
	if !ok || store.At != behind.At {
		return errNotRecorded
	}
	effect := order.Of(s.Store.Point)
	d.At = order.Location{Addr: store.At, Bytes: effect.Operand.Bytes}
	d.Old, d.New = store.Content, behind.Content
	var was, is, now [8]byte
	binary.LittleEndian.PutUint64(was[:], d.Old)
	binary.LittleEndian.PutUint64(is[:], d.New)
	n := d.At.Bytes
	if n > longestStore {
		return fmt.Errorf("%v stores %d bytes, and at most %d can be delayed", s.Store, n, longestStore)
	}
	err := r.memory.Read(d.At.Addr, now[:n])
	if not := (*memory.NotMappedError)(nil); errors.As(err, &not) {
		d.Prevented = unmapped
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case now != is:
		d.Prevented = overwritten
		return nil
	case was == is:
		d.Prevented = "it stores what is there"
		return nil
	}
	var before, after uint64
	if r.touches != nil {
		if before, err = r.touches.Count(); err != nil {
			return err
		}
	}
	if err := r.memory.Write(d.At.Addr, was[:n]); err != nil {
		return err
	}
	result.Note(s.sides()[0], "goes on, and does not see the store")
	if result.Locked = !r.finishes(goOn); !result.Locked {
		result.Note(s.sides()[0], "is done")
	}
	if effect.Atomic {
		// It changes what is there by now.
		if err := r.memory.Read(d.At.Addr, now[:n]); err != nil {
			return err
		}
		there := binary.LittleEndian.Uint64(now[:])
		binary.LittleEndian.PutUint64(is[:], (there|d.New&^d.Old)&^(d.Old&^d.New))
	}
	err = r.memory.Write(d.At.Addr, is[:n])
	if r.touches != nil {
		var counted error
		after, counted = r.touches.Count()
		err, d.Touched = errors.Join(err, counted), after > before
	}
	return err
}
