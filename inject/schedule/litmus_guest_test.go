package schedule

import (
	"errors"
	"os"
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
// stores, or loads only, is an eBPF program, which the kernel compiles to plain
// instructions; the other side writes y or z and reads or writes x, by system calls, which
// are full barriers. An order that is allowed must show each time: neither side sees what
// the other has written, or the one that loads sees that of x and not that of y. One that
// is forbidden must not be acted out.
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
	ring, err := ebpf.NewMap(&ebpf.MapSpec{Name: "ring", Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	for name, m := range map[string]**ebpf.Map{"x": &all.x, "y": &all.y, "z": &all.z, "seen": &all.seen} {
		var err error
		if *m, err = ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
			t.Fatal(err)
		}
		defer (*m).Close()
	}
	store := func(bytes asm.Size) asm.Instruction { return asm.StoreMem(asm.R1, 0, asm.R6, bytes) } // x = 1
	load := asm.LoadMem(asm.R7, asm.R2, 0, asm.DWord)                                               // seen = y
	// A function of the kernel's that takes the ring and 0, or nothing.
	calls := func(f asm.BuiltinFunc) []asm.Instruction {
		return []asm.Instruction{
			asm.Mov.Reg(asm.R9, asm.R2), asm.LoadMapPtr(asm.R1, ring.FD()), asm.Mov.Imm(asm.R2, 0), f.Call(),
			asm.Mov.Reg(asm.R2, asm.R9), asm.LoadMapValue(asm.R4, all.seen.FD(), 0),
		}
	}
	// The address of y plus nothing, which comes from a register.
	depends := []asm.Instruction{asm.And.Imm(asm.R8, 0), asm.Add.Reg(asm.R2, asm.R8)}
	for _, test := range []struct {
		name    string
		between []asm.Instruction
		half    bool        // the store is of the first half of x
		reads   bool        // the other side reads z before x
		ends    *order.Rule // before the load; nil if the order is allowed
		newer   *order.Rule // or this, in a newer kernel
		// inOrder: it is about an architecture that keeps stores in order, and whose
		// atomic instructions are barriers.
		inOrder bool
		// loads: instead of the store, seen = 2 * x, and seen = x * 2 + y at the end.
		loads bool
		// z: the other side writes z, too. changes: this must keep it from being acted
		// out.
		z       bool
		changes string
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
		{name: "loads", loads: true},
		{name: "loads, branch", loads: true, between: []asm.Instruction{asm.JEq.Imm(asm.R7, 7, "load")}},
		{name: "loads, store in between", loads: true, between: []asm.Instruction{asm.StoreMem(asm.R3, 0, asm.R6, asm.DWord)}},
		{name: "loads, dependency on what stays", loads: true, between: slices.Concat([]asm.Instruction{asm.LoadMem(asm.R8, asm.R3, 0, asm.DWord)}, depends)},
		{name: "loads, dependency on what changes", loads: true, z: true, between: slices.Concat([]asm.Instruction{asm.LoadMem(asm.R8, asm.R3, 0, asm.DWord)}, depends), changes: order.AddressDependency.Name},
		{name: "loads, dependency", loads: true, between: slices.Concat([]asm.Instruction{asm.Mov.Reg(asm.R8, asm.R7)}, depends), ends: order.AddressDependency},
		{name: "loads, dependency by the stack", loads: true, between: slices.Concat([]asm.Instruction{asm.StoreMem(asm.RFP, -8, asm.R7, asm.DWord), asm.LoadMem(asm.R8, asm.RFP, -8, asm.DWord)}, depends), ends: order.AddressDependency},
		{name: "loads, own store", loads: true, between: []asm.Instruction{asm.StoreMem(asm.R2, 0, asm.R6, asm.DWord)}, ends: order.ReadBefore},
		{name: "loads, same location", loads: true, between: []asm.Instruction{asm.Mov.Reg(asm.R2, asm.R1)}, ends: order.ReadBefore},
		// kernel/bpf/ringbuf.c: ringbuf_avail_data_sz() is an smp_load_acquire().
		{name: "loads, acquire", loads: true, between: calls(asm.FnRingbufQuery), ends: order.Acquire},
		// include/linux/seqlock.h: read_seqcount_begin() is an smp_rmb(), or a load-acquire
		// since Linux 6.13.
		{name: "loads, read barrier", loads: true, between: calls(asm.FnKtimeGetCoarseNs), ends: order.LoadBarrier, newer: order.Acquire},
	} {
		if test.inOrder && !order.InOrder || (test.reads && !test.inOrder || test.loads) && order.InOrder {
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
			load, old := load, uint64(0)
			if test.loads {
				code[len(code)-1] = asm.LoadMem(asm.R7, asm.R1, 0, asm.DWord)
				load.Dst, old = asm.R9, 2
			}
			code = append(code, test.between...)
			code = append(code, load.WithSymbol("load"))
			if test.loads {
				code = append(code, asm.LSh.Imm(asm.R7, 1), asm.Or.Reg(asm.R7, asm.R9))
			}
			code = append(code, asm.StoreMem(asm.R4, 0, asm.R7, asm.DWord), asm.Mov.Imm(asm.R0, 0), asm.Return())
			l := newLitmus(t, r, all, code, test.loads)
			l.writesZ = test.z
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
			passes := w.Find(l.load)
			if test.ends != nil {
				forbids := append(w.Ordered, w.Ends)
				if passes != nil || !slices.Contains(forbids, test.ends) && (test.newer == nil || !slices.Contains(forbids, test.newer)) {
					t.Errorf("%v: have %v and %v, want that %v forbids it", w, w.Ends, w.Ordered, test.ends)
				}
				return
			}
			if passes == nil {
				t.Fatalf("%v, %v: the load does not pass", w, w.Ordered)
			}
			if test.loads {
				l.early = &passes.Early
			}
			if test.changes != "" {
				if d, err := l.act(l.behind()); err != nil || d.Prevented != test.changes {
					t.Errorf("%v, %v, want that %q prevents it", d, err, test.changes)
				}
				return
			}
			for range times {
				if seen, read := l.actOut(t); seen != old || read != 0 {
					t.Fatalf("the side that is out of order has read %d, and the other %d; want %d and 0", seen, read, old)
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
	early       *Early // store is a load, too
	writesZ     bool   // the other side does
	old         uint64 // what the other side has read of x
}

func newLitmus(t *testing.T, r *Runner, all locations, code asm.Instructions, loads bool) *litmus {
	t.Helper()
	l := &litmus{Runner: r, locations: all}
	if loads {
		l.early = &Early{}
	}
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
	// The first store, or load, is that of x. The load is the last: what follows stores.
	for _, p := range l.code.Points {
		e := order.Of(p)
		switch {
		case e.Operand.Bytes == 0 || e.Private:
		case (e.Writes || loads) && l.store.Nth == 0:
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
			m := meanwhile{places: places, after: after}
			if l.early != nil {
				m = l.held(Store{Store: l.store}, places)
			}
			_, err := l.interleave(Store{}, l.other, l.run, m)
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
	if l.early != nil {
		f.passing = &passing{}
	}
	f.know(l.code)
	return f
}

// act delays the store until the step.
func (l *litmus) act(at Step) (*Delay, error) {
	operand, d := order.Of(l.store.Point).Operand, &Delay{}
	i := slices.Index(l.code.Points, l.store.Point)
	s := Store{Store: l.store, Load: l.load, Early: l.early}
	if l.early != nil {
		_, err := l.interleave(s, l.other, l.run, l.earlier(s, d, at.Point))
		return d, err
	}
	result, err := l.interleave(s, l.other, l.run, meanwhile{
		places: []breakpoint.Place{{Point: l.store.Point, Operand: operand}, {Point: l.code.Points[i+1], Operand: operand, Again: true}},
		after:  1, trap: at.Point, passes: at.Nth - 1,
		act: func(result *stage.Result, goOn func()) error { return l.delay(s, d, result, goOn) },
	})
	if err == nil && (!result.Reached || result.Locked || d.Prevented != "") {
		panic("a litmus test in which nothing is in the way was not acted out")
	}
	return d, err
}

// actOut delays the store until behind the load, and returns what the two sides have
// read.
func (l *litmus) actOut(t *testing.T) (seen, old uint64) {
	t.Helper()
	if _, err := l.act(l.behind()); err != nil {
		t.Fatal(err)
	}
	return l.value(t, l.seen), l.old
}

// behind is what follows the load.
func (l *litmus) behind() Step {
	return Step{l.code.Points[slices.Index(l.code.Points, l.load.Point)+1], 1}
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
	if l.writesZ {
		if err := l.z.Put(uint32(0), uint64(1)); err != nil {
			return err
		}
	}
	if l.early != nil {
		return l.x.Put(uint32(0), uint64(1))
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
	}, false)
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
