package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// schedule is a finding at instructions from to to, bytes of the symbol that the
// schedule's id begins with.
func schedule(promise contract.Promise, victim, id string, from, to uint64) Finding {
	symbol, _ := split(id[:strings.IndexAny(id, "/&")])
	opponent, does := contract.Producer, "sends three packets"
	if victim == contract.Producer {
		opponent, does = contract.Consumer, "reads all that is there"
	}
	f := Finding{Finding: contract.Finding{
		Promise: promise, Contract: contract.OptIn, Schedule: id, Points: 1, Failed: 10, Tries: 10,
		From:     contract.Place{Name: fmt.Sprintf("%s+%#x", symbol, from), Text: "mov %rax,%rbx"},
		To:       contract.Place{Name: fmt.Sprintf("%s+%#x", symbol, to), Text: "pop %rbx"},
		Opponent: "the " + opponent + " " + does,
		Why:      "1 of 6 packets tail-dropped with a qdisc attached",
		Books:    &contract.Books{Offered: 6, Received: 5, Drops: map[string]uint64{"FULL_RING@tun_net_xmit": 1}},
		TimeLine: []contract.Moment{
			{At: 10 * time.Microsecond, Who: victim, What: "reads"},
			{At: 20 * time.Microsecond, Who: victim, What: heldUp},
			{At: 30 * time.Microsecond, Who: opponent, What: does},
			{At: 40 * time.Microsecond, Who: opponent, What: "is done"},
			{At: 50 * time.Microsecond, Who: victim, What: goesOn},
		},
	}, Replay: "go test ./vmtests -run 'Schedules/" + id + "'"}
	if to > from {
		f.Points = 7
	}
	return f
}

func causesOf(findings ...Finding) []*Cause { return (&Run{Findings: findings}).Causes() }

// TestOneCauseIsOneFinding: windows that overlap are one, in whatever setting, and
// nothing else is.
func TestOneCauseIsOneFinding(t *testing.T) {
	tail, stall := contract.NoTailDrop, contract.NoStall
	at := func(f Finding, file string, lines ...int) Finding {
		symbol, _ := split(f.From.Name)
		f.Source = []Source{{Symbol: symbol, Function: "tun_ring_consume", File: file, Held: lines}}
		return f
	}
	script := func(lines ...string) Finding {
		return Finding{Finding: contract.Finding{Promise: stall, Script: strings.Join(lines, "\n")}}
	}
	for _, tt := range []struct {
		name     string
		findings []Finding
		causes   int
	}{
		{"the same window in two settings", []Finding{
			schedule(tail, "consumer", "consume+0x2f/send-three/ring=2/mq/left=1", 0x27, 0x3a),
			schedule(tail, "consumer", "consume+0x37/fill/ring=2/fq_codel/left=0", 0x2f, 0x3a),
		}, 1},
		{"windows that touch in a third", []Finding{
			schedule(tail, "producer", "xmit+0x25/reattach/ring=2/fq_codel", 0x25, 0x30),
			schedule(tail, "producer", "xmit+0x45/reattach/ring=2/fq_codel", 0x45, 0x50),
			schedule(tail, "producer", "xmit+0x40/reattach/ring=2/fq_codel/vhost", 0x25, 0x60),
		}, 1},
		{"another part of the function", []Finding{
			schedule(tail, "producer", "xmit+0x25/second-fills/ring=2/fq_codel", 0x25, 0x30),
			schedule(tail, "producer", "xmit+0x45/reattach/ring=2/fq_codel", 0x45, 0x50),
		}, 2},
		{"another promise", []Finding{
			schedule(tail, "consumer", "consume+0x2f/send-three/ring=2/mq/left=1", 0x27, 0x3a),
			schedule(stall, "consumer", "consume+0x2f/send-three/ring=2/mq/left=1", 0x27, 0x3a),
		}, 2},
		{"a pair with one side in the window", []Finding{
			schedule(tail, "consumer", "consume+0x2f/send-three/ring=2/mq/left=1", 0x27, 0x3a),
			schedule(tail, "producer", "xmit+0x26f&consume+0x2d/ring=1/fq_codel", 0x26f, 0x26f),
		}, 1},
		{"pairs with one side alike", []Finding{
			schedule(tail, "producer", "xmit+0x26f&consume+0x2d/ring=1/fq_codel", 0x26f, 0x26f),
			schedule(tail, "producer", "xmit+0x26f&wake+0x2d/ring=2/fq_codel", 0x26f, 0x26f),
		}, 2},
		{"a function and the one that it calls", []Finding{
			schedule(tail, "consumer", "read+0x10/send-one/ring=2/fq_codel/left=2", 0, 0x47),
			schedule(tail, "consumer", "do_read+0x10/send-one/ring=2/fq_codel/left=2", 0, 0x70),
		}, 1},
		{"two sides from their first instruction on", []Finding{
			schedule(tail, "consumer", "read+0x10/send-one/ring=2/fq_codel/left=2", 0, 0x47),
			schedule(tail, "producer", "xmit+0x10/second-fills/ring=2/fq_codel", 0, 0x70),
		}, 2},
		{"the same line, by another instruction", []Finding{
			at(schedule(tail, "consumer", "consume+0x2f/send-three/ring=2/mq/left=1", 0x2f, 0x2f), "drivers/net/tun.c", 7, 8),
			at(schedule(tail, "consumer", "consume+0x47/send-three/ring=2/mq/left=2", 0x47, 0x47), "drivers/net/tun.c", 8),
		}, 1},
		{"the same number of a line elsewhere", []Finding{
			at(schedule(tail, "consumer", "consume+0x2f/send-three/ring=2/mq/left=1", 0x2f, 0x2f), "drivers/net/tun.c", 7),
			at(schedule(tail, "consumer", "get+0x47/send-three/ring=2/mq/left=2", 0x47, 0x47), "drivers/vhost/net.c", 7),
		}, 2},
		{"a sequence of faults with other numbers", []Finding{
			script("1. fill the ring", "2. detach queue 1"), script("1. fill the ring", "2. detach queue 0"),
		}, 1},
		{"another sequence", []Finding{
			script("1. fill the ring", "2. detach queue 1"), script("1. fill the ring", "2. close queue 1"),
		}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			causes := causesOf(tt.findings...)
			if len(causes) != tt.causes {
				t.Errorf("%d causes, want %d", len(causes), tt.causes)
			}
			seen := 0
			for _, c := range causes {
				seen += len(c.Findings)
			}
			if seen != len(tt.findings) {
				t.Errorf("%d of %d findings are in a cause", seen, len(tt.findings))
			}
		})
	}
}

// TestShortestScheduleFirst: what a reader has to follow least of stands for the
// cause, and what breaks each time before what does not.
func TestShortestScheduleFirst(t *testing.T) {
	pair := schedule(contract.NoTailDrop, "producer", "xmit+0x26f&consume+0x2d/ring=1/fq_codel", 0x26f, 0x26f)
	long := schedule(contract.NoTailDrop, "consumer", "consume+0x2f/fill/ring=2/fq_codel/left=1", 0x27, 0x3a)
	long.Books = &contract.Books{Offered: 9, Received: 8, Drops: map[string]uint64{"FULL_RING@f": 1}}
	short := schedule(contract.NoTailDrop, "consumer", "consume+0x2f/send-one/ring=2/fq_codel/left=1", 0x27, 0x3a)
	rare := schedule(contract.NoTailDrop, "consumer", "consume+0x2f/supplant/ring=2/fq_codel/left=1", 0x27, 0x3a)
	rare.Failed, rare.Books = 2, &contract.Books{Offered: 1}
	causes := causesOf(pair, rare, long, short)
	if len(causes) != 1 {
		t.Fatal(causes)
	}
	var ids []string
	for _, f := range causes[0].Findings {
		ids = append(ids, f.Schedule)
	}
	if want := []string{short.Schedule, long.Schedule, pair.Schedule, rare.Schedule}; strings.Join(ids, " ") != strings.Join(want, " ") {
		t.Errorf("%v, want %v", ids, want)
	}
	text := causes[0].text(1)
	for _, says := range []string{
		"finding 1: no-tail-drop is broken, seen in 4 settings\n",
		"The consumer is held up at any of 7 neighbouring instructions",
		"consume+0x27 .. +0x3a. Meanwhile the producer sends three packets.",
		"    window: consume+0x27 .. +0x3a\n    window: xmit+0x26f\n",
		"0.020 ms  consumer    is held up\n",
		"replay: go test ./vmtests -run 'Schedules/" + short.Schedule + "'\n",
	} {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), strings.Join(strings.Fields(says), " ")) {
			t.Errorf("%s\ndoes not say %q", text, says)
		}
	}
}

// TestNearestKept: the schedule that kept the promise stands beside the one that
// broke it, the first difference marked.
func TestNearestKept(t *testing.T) {
	f := schedule(contract.NoTailDrop, "consumer", "consume+0x2f/send-one/ring=2/fq_codel/left=1", 0x27, 0x3a)
	running := &contract.Queue{Ring: 2, Size: 2}
	f.TimeLine[4].Queue = running
	kept := append([]contract.Moment(nil), f.TimeLine...)
	kept[4].Queue = &contract.Queue{Ring: 2, Size: 2, Backlog: 1, Stopped: true}
	f.Kept = &contract.Neighbour{Place: contract.Place{Name: "consume+0x3e", Text: "ret"}, TimeLine: kept, Books: f.Books}
	if at := f.Differs(); at != 4 {
		t.Errorf("the first difference is in moment %d, want 4", at)
	}
	text := causesOf(f)[0].text(1)
	for _, says := range []string{
		"Then the ring holds 2 of 2 packets, the qdisc 0, and the txq runs. The consumer goes on.",
		"If the consumer is held up at consume+0x3e instead, the promise is kept.",
		"kept when held up at consume+0x3e: ret",
		">       0.050 ms  consumer    goes on (the ring holds 2 of 2 packets, the qdisc 1, and the txq is stopped)",
	} {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), strings.Join(strings.Fields(says), " ")) {
			t.Errorf("%s\ndoes not say %q", text, says)
		}
	}
	if strings.Count(text, "> ") != 1 {
		t.Errorf("want one difference marked:\n%s", text)
	}
}

// TestManyFindings: a kernel that keeps nothing has hundreds, which the report of a
// run that goes on groups every two seconds.
func TestManyFindings(t *testing.T) {
	r := new(Run)
	for i := range 2000 {
		id := fmt.Sprintf("f%d+0x2f/send-three/ring=%d/mq/left=1", i%300, i)
		r.Findings = append(r.Findings, schedule(contract.NoTailDrop, "consumer", id, uint64(i%7*16), uint64(i%7*16+20)))
	}
	began := time.Now()
	if n := len(r.Causes()); n < 300 || n > 400 {
		t.Errorf("%d causes", n)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v to group them", took)
	}
	page, err := r.Format("html")
	if err != nil || len(page) > 2<<20 {
		t.Errorf("a page of %d bytes, %v", len(page), err)
	}
}

var delayed = &contract.Delayed{
	Load: contract.Place{Addr: 0x2f0, Name: "tun_do_read+0x1f0", Text: "mov 0x110(%rbp),%rax"}, At: "8 bytes at 0x1000", Barrier: "smp_mb()", Litmus: "C consumer-reads-early\n",
}

func TestWhyOfADelayedStore(t *testing.T) {
	f := schedule(contract.NoStall, contract.Producer, "tun_net_xmit+0x26f&tun_ring_consume+0x2d~tun_do_read+0x1f0/ring=1/fq_codel", 0x26f, 0x26f)
	f.Second = &contract.Place{Name: "tun_ring_consume+0x2d", Text: "mov %r9,(%rsi)"}
	f.Delayed, f.Why = delayed, "the qdisc holds 2 packets"
	run := &Run{Findings: []Finding{f}}
	got := run.Causes()[0].Because()
	const want = "The producer is held up at tun_net_xmit+0x26f. Then the consumer executes the store at tun_ring_consume+0x2d, and behind it the load at tun_do_read+0x1f0. " +
		"The store waits in its CPU's buffer, for no full barrier is in between. Meanwhile the producer goes on to its end. Then the store becomes visible, and the consumer goes on. " +
		"At the end the qdisc holds 2 packets."
	if got != want {
		t.Errorf("have %s\nwant %s", got, want)
	}
	early := *delayed
	early.Early = true
	f.Delayed = &early
	got = (&Run{Findings: []Finding{f}}).Causes()[0].Because()
	const wantEarly = "The producer is held up at tun_net_xmit+0x26f. Then the consumer executes its load at tun_do_read+0x1f0 before the one at tun_ring_consume+0x2d, for no barrier is in between. " +
		"Between the two the producer goes on to its end. So the first has read what was there before, and the second reads what is new. " +
		"At the end the qdisc holds 2 packets."
	if got != wantEarly {
		t.Errorf("have %s\nwant %s", got, wantEarly)
	}
	if text := f.String(); !strings.HasSuffix(text, "For herd7 and tools/memory-model:\n\nC consumer-reads-early\n") {
		t.Errorf("have %s", text)
	}
}
