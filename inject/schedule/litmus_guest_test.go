package schedule

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/order"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/guest/guesttest"
)

// times is how often an order is acted out that the rules allow.
const times = 100

// x, y and z are the locations of a litmus test, seen what the side that stores has
// read.
type locations struct{ x, y, z, seen *ebpf.Map }

// TestLitmus holds the rules to what they allow and what they forbid. The side that
// stores is an eBPF program, which the kernel compiles to plain instructions; the other
// side writes y or z and reads x, by system calls, which are full barriers. An order
// that is allowed must show each time: neither side sees what the other has written.
// One that is forbidden must not be acted out.
func TestLitmus(t *testing.T) {
	guesttest.Need(t, "holds up CPUs")
	r := newRunner(t)
	guesttest.NoError(t, r.stores())
	defer Uncollected()()
	// Programs are freed when all is done: see breakpoint.Recorder.CountTouches.
	var programs []*ebpf.Program
	defer func() {
		for _, p := range programs {
			p.Close()
		}
	}()
	var all locations
	for name, m := range map[string]**ebpf.Map{"x": &all.x, "y": &all.y, "z": &all.z, "seen": &all.seen} {
		var err error
		if *m, err = ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
			t.Fatal(err)
		}
		defer (*m).Close()
	}
	store := func(bytes asm.Size) asm.Instruction { return asm.StoreMem(asm.R1, 0, asm.R6, bytes) } // x = 1
	load := asm.LoadMem(asm.R7, asm.R2, 0, asm.DWord)                                               // seen = y
	for _, test := range []struct {
		name    string
		between []asm.Instruction
		half    bool        // the store is of the first half of x
		reads   bool        // the other side reads z before x
		ends    *order.Rule // before the load; nil if the order is allowed
		// inOrder: it is about an architecture that keeps stores in order, and whose
		// atomic instructions are barriers.
		inOrder bool
	}{
		{name: "store buffering"},
		{name: "a store that nobody reads", between: []asm.Instruction{asm.StoreMem(asm.R3, 0, asm.R6, asm.DWord)}},
		{name: "a load", between: []asm.Instruction{asm.LoadMem(asm.R8, asm.R3, 0, asm.DWord)}},
		{name: "own read", between: []asm.Instruction{asm.LoadMem(asm.R8, asm.R1, 0, asm.DWord)}},
		{name: "own read of more", half: true, between: []asm.Instruction{asm.LoadMem(asm.R8, asm.R1, 0, asm.DWord)}, ends: order.OwnRead},
		{name: "lock", between: []asm.Instruction{asm.StoreXAdd(asm.R3, asm.R6, asm.DWord)}, inOrder: true, ends: order.Locked},
		{name: "xchg", between: []asm.Instruction{asm.Xchg.Mem(asm.R3, asm.R8, asm.DWord, 0)}, inOrder: true, ends: order.Locked},
		{name: "message passing", between: []asm.Instruction{asm.StoreMem(asm.R3, 0, asm.R6, asm.DWord)}, reads: true, inOrder: true, ends: order.LaterStore},
		{name: "message passing, not in order", between: []asm.Instruction{asm.StoreMem(asm.R3, 0, asm.R6, asm.DWord)}, reads: true},
	} {
		if test.inOrder && !order.InOrder || test.reads && !test.inOrder && order.InOrder {
			continue
		}
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			size := asm.DWord
			if test.half {
				size = asm.Word
			}
			code := asm.Instructions{
				asm.LoadMapValue(asm.R1, all.x.FD(), 0), asm.LoadMapValue(asm.R2, all.y.FD(), 0), asm.LoadMapValue(asm.R3, all.z.FD(), 0), asm.LoadMapValue(asm.R4, all.seen.FD(), 0),
				asm.Mov.Imm(asm.R6, 1), asm.Mov.Imm(asm.R8, 0), store(size),
			}
			code = append(code, test.between...)
			code = append(code, load, asm.StoreMem(asm.R4, 0, asm.R7, asm.DWord), asm.Mov.Imm(asm.R0, 0), asm.Return())
			l := newLitmus(t, r, all, code)
			programs = append(programs, l.program)
			var err error
			if test.reads {
				// Not by a system call, which copies by rep movs: that sets off no
				// breakpoint without KVM.
				reader := asm.Instructions{asm.LoadMapValue(asm.R1, all.z.FD(), 0), asm.LoadMem(asm.R0, asm.R1, 0, asm.DWord), asm.Return()}
				if l.reader, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, Instructions: reader, License: "GPL"}); err != nil {
					t.Fatal(err)
				}
				programs = append(programs, l.reader)
			}
			w, err := l.follower().follow(l.store)
			if err != nil {
				t.Fatal(err)
			}
			if w == nil {
				t.Fatal("the store is not executed")
			}
			behind := slices.IndexFunc(w.Loads, func(load Load) bool { return load.Step == l.load })
			if test.ends != nil {
				if behind >= 0 || w.Ends != test.ends {
					t.Errorf("%v: have %v, want that %v ends it", w, w.Ends, test.ends)
				}
				return
			}
			if behind < 0 {
				t.Fatalf("%v: it is not delayed beyond the load", w)
			}
			for range times {
				if seen, old := l.actOut(t); seen != 0 || old != 0 {
					t.Fatalf("the side that stores has read %d, and the other %d; want that neither sees what the other has written", seen, old)
				}
				if x := l.value(t, all.x); x != 1 {
					t.Fatalf("at the end x is %d", x)
				}
			}
		})
	}
}

// litmus is one litmus test.
type litmus struct {
	*Runner
	locations
	reader      *ebpf.Program // what else the other side does; nil is nothing
	program     *ebpf.Program
	code        *disasm.Function
	store, load Step
	old         uint64 // what the other side has read of x
}

func newLitmus(t *testing.T, r *Runner, all locations, code asm.Instructions) *litmus {
	t.Helper()
	l := &litmus{Runner: r, locations: all}
	var err error
	if l.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{Name: "litmus", Type: ebpf.SocketFilter, Instructions: code, License: "GPL"}); err != nil {
		t.Fatal(err)
	}
	info, err := l.program.Info()
	if err != nil {
		t.Fatal(err)
	}
	addrs, _ := info.JitedKsymAddrs()
	lengths, _ := info.JitedFuncLens()
	if len(addrs) == 0 || len(lengths) == 0 {
		t.Fatal("the kernel does not compile eBPF programs: it lacks CONFIG_BPF_JIT, or net.core.bpf_jit_enable is 0")
	}
	if l.code, err = disasm.Code("litmus", uint64(addrs[0]), int(lengths[0])); err != nil {
		t.Fatal(err)
	}
	// The first store is that of x. The load is the last: what follows stores.
	for _, p := range l.code.Points {
		e := order.Of(p)
		switch {
		case e.Operand.Bytes == 0 || e.Private:
		case e.Writes && l.store.Nth == 0:
			l.store = Step{p, 1}
		case e.Reads && !e.Writes && l.store.Nth > 0:
			l.load = Step{p, 1}
		}
	}
	if l.store.Nth == 0 || l.load.Nth == 0 {
		t.Fatalf("no store and load: %v", l.code.Points)
	}
	return l
}

func (l *litmus) follower() *follower {
	f := &follower{
		record: func(places []breakpoint.Place, after int) ([]breakpoint.Record, error) {
			_, err := l.interleave(Store{}, l.other, l.run, meanwhile{places: places, after: after})
			records, _ := l.recorder.Records()
			return records, err
		},
		sees: func(at Step, where order.Location) (bool, error) {
			touches, err := l.recorder.CountTouches(operatorCPU, where)
			if err != nil {
				return false, err
			}
			defer touches.Close()
			l.touches = touches
			defer func() { l.touches = nil }()
			d, err := l.act(at)
			return d.Touched, err
		},
	}
	f.know(l.code)
	return f
}

// act delays the store until the step.
func (l *litmus) act(at Step) (*Delay, error) {
	operand, d := order.Of(l.store.Point).Operand, &Delay{}
	i := slices.Index(l.code.Points, l.store.Point)
	s := Store{Store: l.store}
	result, err := l.interleave(s, l.other, l.run, meanwhile{
		places: []breakpoint.Place{{Point: l.store.Point, Operand: operand}, {Point: l.code.Points[i+1], Operand: operand, Again: true}},
		after:  1, trap: at.Point, passes: at.Nth - 1,
		act: func(result *stage.Result, goOn func()) error { return l.delay(s, d, result, goOn) },
	})
	if err == nil && (!result.Reached || result.Locked || d.Prevented() != "") {
		panic("a litmus test in which nothing is in the way was not acted out")
	}
	return d, err
}

// actOut delays the store until behind the load, and returns what the two sides have
// read.
func (l *litmus) actOut(t *testing.T) (seen, old uint64) {
	t.Helper()
	i := slices.Index(l.code.Points, l.load.Point)
	if _, err := l.act(Step{l.code.Points[i+1], 1}); err != nil {
		t.Fatal(err)
	}
	return l.value(t, l.seen), l.old
}

// run is the side that stores, after all locations were cleared.
func (l *litmus) run() error {
	for _, m := range []*ebpf.Map{l.x, l.y, l.z, l.seen} {
		if err := m.Put(uint32(0), uint64(0)); err != nil {
			return err
		}
	}
	_, err := l.program.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	return err
}

// other is the other side.
func (l *litmus) other() error {
	if err := l.y.Put(uint32(0), uint64(1)); err != nil {
		return err
	}
	if l.reader != nil {
		if _, err := l.reader.Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil {
			return err
		}
	}
	return l.x.Lookup(uint32(0), &l.old)
}

func (l *litmus) value(t *testing.T, m *ebpf.Map) (v uint64) {
	t.Helper()
	if err := m.Lookup(uint32(0), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestTouches: reads and writes of a location are counted, and those beside it are not.
func TestTouches(t *testing.T) {
	guesttest.Need(t, "holds up CPUs")
	r := newRunner(t)
	var all locations
	for _, m := range []**ebpf.Map{&all.x, &all.y, &all.z, &all.seen} {
		var err error
		if *m, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
			t.Fatal(err)
		}
		defer (*m).Close()
	}
	l := newLitmus(t, r, all, asm.Instructions{
		asm.LoadMapValue(asm.R1, all.x.FD(), 0), asm.Mov.Imm(asm.R0, 0), asm.StoreMem(asm.R1, 0, asm.R0, asm.DWord), asm.LoadMem(asm.R0, asm.R1, 0, asm.DWord), asm.Return(),
	})
	defer l.program.Close()
	guesttest.NoError(t, r.stores())
	records, err := l.follower().record([]breakpoint.Place{{Point: l.store.Point}}, 1)
	if err != nil || len(records) == 0 {
		t.Fatal(records, err)
	}
	at := order.Of(l.store.Point).Operand.Address(&records[0].Registers)
	for _, test := range []struct {
		where order.Location
		want  uint64
	}{
		{order.Location{Addr: at, Bytes: 8}, 2}, {order.Location{Addr: at + 4, Bytes: 8}, 2}, {order.Location{Addr: at + 2, Bytes: 1}, 2}, {order.Location{Addr: at + 8, Bytes: 8}, 0},
	} {
		touches, err := r.recorder.CountTouches(victimCPU, test.where)
		if err != nil {
			t.Fatal(err)
		}
		r.victim.Call(func() { _, err = l.program.Run(&ebpf.RunOptions{Data: make([]byte, 64)}) })
		n, counted := touches.Count()
		if err := errors.Join(err, counted, touches.Close()); err != nil {
			t.Fatal(err)
		}
		if n != test.want {
			t.Errorf("%v: touched %d times, want %d", test.where, n, test.want)
		}
	}
	touches, err := r.recorder.CountTouches(victimCPU, order.Location{Addr: at + 8, Bytes: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer touches.Close()
	for _, test := range []struct {
		where order.Location
		moves bool
		want  uint64
	}{
		{order.Location{Addr: at, Bytes: 8}, true, 2}, {order.Location{Addr: at + 8, Bytes: 4}, true, 0}, {order.Location{Addr: at + 4, Bytes: 8}, false, 0},
	} {
		moves, err := touches.Move(test.where)
		if err != nil {
			t.Fatal(err)
		}
		r.victim.Call(func() { _, err = l.program.Run(&ebpf.RunOptions{Data: make([]byte, 64)}) })
		n, counted := touches.Count()
		if err := errors.Join(err, counted); err != nil {
			t.Fatal(err)
		}
		if moves != test.moves || n != test.want {
			t.Errorf("moved to %v: %v, touched %d times, want %v, %d", test.where, moves, n, test.moves, test.want)
		}
	}
}
