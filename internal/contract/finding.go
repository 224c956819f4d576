package contract

import (
	"fmt"
	"strings"
	"time"
)

// Finding is an interleaving, or a sequence of faults, that breaks a promise.
type Finding struct {
	Promise  Promise
	Contract Contract
	// From and To are the first and the last of neighbouring instructions at
	// any of which it breaks when the CPU is held up there.
	From, To Place
	// Points is how many instructions that are, of so many that are Reached.
	Points, Reached int
	// At are the addresses of those Points; nil where only From and To are known.
	At []uint64 `json:",omitempty"`
	// Second is where the other side is held up in turn; nil unless the schedule is
	// one of a pair.
	Second *Place `json:",omitempty"`
	// Delayed is a store of the other side that becomes visible late, which is then
	// the instruction at Second; nil unless there is one.
	Delayed *Delayed `json:",omitempty"`
	// Opponent is what the other side did meanwhile, in words.
	Opponent string
	// Schedule is the id of one of the schedules, which was run again Tries
	// times and broke the promise Failed times.
	Schedule      string
	Failed, Tries int
	// TimeLine is that of one of those runs.
	TimeLine []Moment `json:",omitempty"`
	// Kept is the schedule nearest to it that kept the promise; nil if none is known.
	Kept *Neighbour `json:",omitempty"`
	// Script, instead of all that, is a sequence of faults, a line each, and
	// Seed what the random sequences that led to it were made from.
	Script string `json:",omitempty"`
	Seed   uint64 `json:",omitempty"`
	// Why are the figures that decide, Books the counts behind them, and
	// Evidence what else there is to see.
	Why      string
	Books    *Books
	Evidence string `json:",omitempty"`
}

// Place is one instruction of the kernel's.
type Place struct {
	Addr uint64
	// Name is the place in a symbol: "tun_net_xmit+0x1cb".
	Name string
	// Text is the instruction.
	Text string
}

// Delayed is a store that others see only behind a later load of its CPU, or a load that
// is executed only behind a later one.
type Delayed struct {
	// Load is that load; on an architecture that does not keep stores in order, it may
	// be a store.
	Load Place
	// Early: there is no store. It is another load, and Load is executed before it.
	Early bool `json:",omitempty"`
	// At is where the store is, or Load if it is early, in words.
	At string
	// Barrier between the two forbids it.
	Barrier string
	// Litmus is the order as a test for herd7 and the kernel's tools/memory-model.
	Litmus string
}

// Moment is one entry of a time line.
type Moment struct {
	At time.Duration // since the first
	// Who is Producer, Consumer, SecondProducer or Control.
	Who  string
	What string
	// Queue is the txq's state at that time; nil where it was not read.
	Queue *Queue `json:",omitempty"`
}

// Who acts, in time lines. Control is whoever changes the device.
const (
	Producer       = "producer"
	Consumer       = "consumer"
	SecondProducer = "producer 2"
	Control        = "control"
)

// Queue is the state of a txq. All counts are packets.
type Queue struct {
	// Ring is how many the ring holds, of so many that it has room for; -1 is not
	// known: a packet is on its way into it, or out of it.
	Ring, Size int
	// Backlog is how many the qdisc holds.
	Backlog int
	// Stopped is whether the driver has stopped the txq (QUEUE_STATE_DRV_XOFF,
	// include/linux/netdevice.h).
	Stopped bool
}

// String is the state in words.
func (q *Queue) String() string {
	state := "runs"
	if q.Stopped {
		state = "is stopped"
	}
	if q.Ring < 0 {
		return fmt.Sprintf("the qdisc holds %s, and the txq %s", Count(q.Backlog, "packet"), state)
	}
	return fmt.Sprintf("the ring holds %d of %s, the qdisc %d, and the txq %s", q.Ring, Count(q.Size, "packet"), q.Backlog, state)
}

// Neighbour is a schedule that kept the promise which its neighbour breaks.
type Neighbour struct {
	// Place is where the CPU was held up instead.
	Place    Place
	Schedule string
	TimeLine []Moment `json:",omitempty"`
	Books    *Books
}

// Pattern is the -run pattern that selects the finding's schedule, or the
// sequences of its Seed, alone.
func (f *Finding) Pattern() string {
	if f.Script != "" {
		return "^TestFaults$"
	}
	return "Schedules/" + f.Schedule
}

// Outcome is what the finding makes of its promise, and why. What was seen once
// and in no replay shows no way to break it, nor that it is kept.
func (f *Finding) Outcome() (Outcome, string) {
	if f.Failed > 0 {
		return Broken, f.Why
	}
	return Undecided, fmt.Sprintf("%s, once, and in none of %s of %s", f.Why, Count(f.Tries, "replay"), f.what())
}

func (f *Finding) what() string {
	if f.Script != "" {
		return fmt.Sprintf("the sequence with SEED=%d", f.Seed)
	}
	return f.Schedule
}

// Where names the instructions, or the faults, in one line.
func (f *Finding) Where() string {
	switch {
	case f.Script != "":
		return "this order: " + strings.ReplaceAll(f.Script, "\n", ", ")
	case f.Points > 1:
		return f.From.Name + " .. " + f.To.Name
	}
	return f.From.Name
}

// String is the finding for people; the command that replays it and source lines
// are the host's to add.
func (f *Finding) String() string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "\n  %-9s %s", what, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "%s broken (contract %s): %s", f.Promise, f.Contract, f.Why)
	switch {
	case f.Script != "":
		for i, step := range strings.Split(f.Script, "\n") {
			line([]string{"sequence", ""}[min(i, 1)], "%s", step)
		}
	case f.Points == 1:
		line("held up", "at %s: %s", f.From.Name, f.From.Text)
	default:
		line("held up", "at any of %d neighbouring instructions (%d are reached), from %s: %s", f.Points, f.Reached, f.From.Name, f.From.Text)
		line("", "to %s: %s", f.To.Name, f.To.Text)
	}
	if f.Opponent != "" {
		line("meanwhile", "%s", f.Opponent)
	}
	for i, m := range f.TimeLine {
		what := m.What
		if m.Queue != nil {
			what += fmt.Sprintf(" (%v)", m.Queue)
		}
		line([]string{"time line", ""}[min(i, 1)], "%8.3f ms  %-10s  %s", float64(m.At.Microseconds())/1000, m.Who, what)
	}
	line("books", "%v", f.Books)
	line("again", "%d of %s", f.Failed, Count(f.Tries, "time"))
	if f.Evidence != "" {
		b.WriteString("\n" + f.Evidence)
	}
	if f.Delayed != nil {
		line("barrier", "%s between the two forbids it. For herd7 and tools/memory-model:", f.Delayed.Barrier)
		b.WriteString("\n\n" + f.Delayed.Litmus)
	}
	return b.String()
}
