package profile

import (
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// kernel has three functions.
func testKernel() *Kernel {
	function := func(name string, addr uint64) elf.Symbol {
		return elf.Symbol{Name: name, Info: byte(elf.STT_FUNC), Value: addr, Size: 0x100}
	}
	return &Kernel{vmlinux: "vmlinux", symbols: []elf.Symbol{
		function("tun_net_xmit", 0xffffffff81000000), function("tun_do_read", 0xffffffff81000100), function("tun_net_xmit.cold", 0xffffffff81000200),
	}}
}

// written is a profile as the plugin writes it, with these lines.
func writtenDown(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "profile.1")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

const good = `instructions 100
astray 0
producer task ffffffff81000000 20 0
producer task ffffffff81000004 20 20
producer task ffffffff81000208 5 0
producer softirq ffffffff81000000 3 0
consumer softirq ffffffff81000000 2 0
consumer task ffffffff810001ff 10 0
consumer task ffffffffa0000000 4 0
idle task 0 6 0
consumer task 0 30 1
end
`

func TestRead(t *testing.T) {
	p, err := testKernel().read(writtenDown(t, good))
	if err != nil {
		t.Fatal(err)
	}
	want := []Line{
		{"producer", "tun_net_xmit", 45, 20},
		{"consumer", User, 30, 1},
		{"consumer", "tun_do_read", 10, 0},
		{"idle", User, 6, 0},
		{"softirq", "tun_net_xmit", 5, 0},
		{"consumer", notInVmlinux, 4, 0},
	}
	if len(p.Lines) != len(want) || p.Instructions != 100 {
		t.Fatalf("read %+v, want %+v", p, want)
	}
	for i := range want {
		if p.Lines[i] != want[i] {
			t.Errorf("line %d is %+v, want %+v", i, p.Lines[i], want[i])
		}
	}
	if p.Kernel() != 64 {
		t.Errorf("the kernel has executed %d, want 64", p.Kernel())
	}
	if p.Locked() != 20 {
		t.Errorf("%d are locked for packets, want 20: user space's are not", p.Locked())
	}
}

func TestOnly(t *testing.T) {
	p, err := testKernel().read(writtenDown(t, good))
	if err != nil {
		t.Fatal(err)
	}
	for where, want := range map[string]uint64{"producer": 45, "consumer": 44, "fault": 0} {
		if got := p.Only(where).Instructions; got != want {
			t.Errorf("%s has executed %d, want %d", where, got, want)
		}
	}
	if got, want := p.Only("producer").Locked(), uint64(20); got != want {
		t.Errorf("the producer has executed %d locked ones, want %d", got, want)
	}
}

func TestReadRefusesWhatDoesNotSumUp(t *testing.T) {
	for name, c := range map[string]struct{ from, to, says string }{
		"less":      {"producer task ffffffff81000000 20 0\n", "producer task ffffffff81000000 19 0\n", "100 instructions were executed, and its lines sum up to 99"},
		"cut off":   {"end\n", "", "has no end"},
		"astray":    {"astray 0", "astray 2", "lost track 2 times"},
		"no line":   {"idle task 0 6 0", "idle task 0", `the line "idle task 0"`},
		"beginning": {"instructions 100\n", "", "its beginning"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, c.from, c.to, 1)
			if _, err := testKernel().read(writtenDown(t, text)); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one with %q", err, c.says)
			}
		})
	}
	if _, err := testKernel().read(filepath.Join(t.TempDir(), "profile.1")); err == nil {
		t.Error("a profile that is not there was read")
	}
}

func TestTakeLeavesTheProfile(t *testing.T) {
	dir := filepath.Dir(writtenDown(t, good))
	taken, err := testKernel().Take(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Read(dir, 1); err != nil || !reflect.DeepEqual(again, taken) {
		t.Errorf("read %+v, error %v; want %+v", again, err, taken)
	}
	if _, err := testKernel().Take(dir, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was taken is there: %v", err)
	}
	untaken := filepath.Join(dir, "profile.23")
	if err := os.WriteFile(untaken, []byte(good), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := Clean(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(untaken); err == nil {
		t.Error("what nobody has taken is there")
	}
	if _, err := Read(dir, 1); err != nil {
		t.Error(err)
	}
}

func TestAgrees(t *testing.T) {
	p := &Profile{Instructions: 100_000, Lines: []Line{{"producer", "tun_net_xmit", 98_000, 0}, {"idle", "default_idle", 2000, 0}}}
	for clock, right := range map[float64]bool{
		100_000: true,
		100_090: true,
		100_200: false, // the plugin has missed some
		98_000:  true,  // the clock does not count what is executed while idle
		97_000:  false, // but no more than that
	} {
		if err := p.Agrees(clock, false); (err == nil) != right {
			t.Errorf("with %.0f by the clock: %v", clock, err)
		}
	}
}

func TestAgreesWithAKernelThatDoesNotTellItsIdleTime(t *testing.T) {
	idle := &Profile{Instructions: 100_000, Lines: []Line{{"producer", "tun_net_xmit", 98_000, 0}, {"idle", "default_idle", 2000, 0}}}
	busy := &Profile{Instructions: 100_000, Lines: []Line{{"producer", "tun_net_xmit", 100_000, 0}}}
	if err := idle.Agrees(500_000, true); err != nil {
		t.Errorf("the clock has jumped while it was idle: %v", err)
	}
	if idle.Agrees(90_000, true) == nil || busy.Agrees(500_000, true) == nil {
		t.Error("more than the clock has counted, or less although it was never idle")
	}
}

func TestCompare(t *testing.T) {
	base := Side{"stock", &Profile{Lines: []Line{
		{"producer", "tun_net_xmit", 9500, 100}, {"producer", "packet_sendmsg", 22400, 0}, {"consumer", "tun_do_read", 10500, 100},
		{"consumer", "a_function_with_a_name_that_is_rather_long", 1000, 0}, {"idle", "default_idle", 4, 0},
	}}, "mean-instr/pkt", 100}
	// The other has received twice as many.
	other := Side{"opt-in-2", &Profile{Lines: []Line{
		{"producer", "tun_net_xmit", 20200, 200}, {"producer", "packet_sendmsg", 44800, 0}, {"consumer", "tun_do_read", 21000, 200},
		{"consumer", "tun_ring_consumed", 4200, 200}, {"consumer", "a_function_with_a_name_that_is_rather_long", 2000, 2},
	}}, "mean-instr/pkt", 200}
	c, err := Compare(base, other)
	if err != nil {
		t.Fatal(err)
	}
	const want = `instr/pkt                                stock  opt-in-2     diff locked
producer                                 319.0     325.0     +6.0
consumer                                 115.0     136.0    +21.0  +1.01
idle                                       0.0       0.0     -0.0
all                                      434.0     461.0    +27.0  +1.01

functions that differ: 3
consumer   tun_ring_consumed               0.0      21.0    +21.0  +1.00
producer   tun_net_xmit                   95.0     101.0     +6.0
consumer   a_function_with_a_name_th      10.0      10.0     +0.0  +0.01

functions that do not: 3
producer   packet_sendmsg                224.0     224.0     +0.0
consumer   tun_do_read                   105.0     105.0     +0.0
idle       default_idle                    0.0       0.0     -0.0
`
	if got := c.String(); got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
	for line := range strings.Lines(c.String()) {
		if len(strings.TrimSuffix(line, "\n")) > 72 {
			t.Errorf("longer than 72 columns: %s", line)
		}
	}
	if _, err := Compare(Side{"stock", base.Profile, "instr/pkt", 0}, other); err == nil {
		t.Error("a side that has received nothing was compared")
	}
}

func TestEntries(t *testing.T) {
	symbol := func(name string, addr uint64) elf.Symbol { return elf.Symbol{Name: name, Value: addr} }
	k := &Kernel{vmlinux: "vmlinux", symbols: []elf.Symbol{
		symbol("__switch_to_asm", 1), symbol("ret_from_fork", 2), symbol("do_idle", 3), symbol("handle_softirqs.isra.0", 4),
		symbol("handle_softirqs.cold", 5), symbol("asm_sysvec_apic_timer_interrupt", 6), symbol("asm_exc_page_fault", 7), symbol("asm_load_gs_index", 8),
	}}
	text, err := k.entries()
	const want = "switch 1\nfork 2\nidle 3\nsoftirq 4\ninterrupt 6\nexception 7\n"
	if err != nil || string(text) != want {
		t.Errorf("the entries are %q, error %v; want %q", text, err, want)
	}
	k.symbols = k.symbols[1:]
	if _, err := k.entries(); err == nil || !strings.Contains(err.Error(), `"switch"`) {
		t.Errorf("without __switch_to_asm: %v", err)
	}
}
