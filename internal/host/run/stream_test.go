package run

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

func newGuest() *Guest {
	g := &Guest{streams: map[string][]*Stream{}, marked: map[string]int{}}
	g.changed = sync.NewCond(&g.mu)
	return g
}

const twice = `{"Action":"start"}
{"Action":"run","Test":"TestA"}
{"Action":"run","Test":"TestA/x"}
{"Action":"output","Test":"TestA/x","Output":"    a_test.go:1: hello\n"}
{"Action":"pass","Test":"TestA/x"}
{"Action":"pass","Test":"TestA"}
{"Action":"run","Test":"TestB"}
{"Action":"skip","Test":"TestB"}
{"Action":"run","Test":"TestA"}
{"Action":"fail","Test":"TestA"}
{"Action":"output","Output":"panic: what no test said\n"}
`

// TestEachExecutionHasItsStream: -count runs a test several times, and each
// time is told apart, in any order of asking.
func TestEachExecutionHasItsStream(t *testing.T) {
	g := newGuest()
	var log bytes.Buffer
	if err := g.sort(strings.NewReader(twice), &log); err != nil {
		t.Fatal(err)
	}
	g.ended = true
	if log.String() != twice {
		t.Errorf("the log is not what came:\n%s", &log)
	}
	if g.loose.String() != "panic: what no test said\n" {
		t.Errorf("output of no test: %q", g.loose.String())
	}
	for _, want := range []struct{ test, last string }{{"TestB", "skip"}, {"TestA", "pass"}, {"TestA", "fail"}} {
		s := g.take(want.test)
		if s == nil {
			t.Fatalf("no %s", want.test)
		}
		var last Event
		for e, ok := s.Next(); ok; e, ok = s.Next() {
			last = e
		}
		if last.Test != want.test || last.Action != want.last {
			t.Errorf("%s ends with %+v, want %s", want.test, last, want.last)
		}
	}
	if s := g.take("TestA"); s != nil {
		t.Error("a third TestA")
	}
}

// TestLongAttributes: test2json cuts their lines, and no piece is shown as
// output of the test.
func TestLongAttributes(t *testing.T) {
	g := newGuest()
	if err := g.sort(strings.NewReader(`{"Action":"run","Test":"TestA"}
{"Action":"attr","Test":"TestA","Key":"k","Value":"long"}
{"Action":"output","Test":"TestA","Output":"=== ATTR  TestA k lo"}
{"Action":"output","Test":"TestA","Output":"n"}
{"Action":"output","Test":"TestA","Output":"g\n"}
{"Action":"output","Test":"TestA","Output":"no newline"}
{"Action":"output","Test":"TestA","Output":" yet\n"}
{"Action":"pass","Test":"TestA"}
`), &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	var shown string
	s := g.take("TestA")
	for e, ok := s.Next(); ok; e, ok = s.Next() {
		if e.Action == "output" && !e.Frame() {
			shown += e.Output
		}
	}
	if shown != "no newline yet\n" {
		t.Errorf("shown: %q", shown)
	}
}

// TestAStreamEndsWithItsGuest: whoever waits for an event is woken.
func TestAStreamEndsWithItsGuest(t *testing.T) {
	g := newGuest()
	if err := g.sort(strings.NewReader(`{"Action":"run","Test":"TestA"}`+"\n"), new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	s := g.take("TestA")
	if _, ok := s.Next(); !ok {
		t.Fatal("no first event")
	}
	go func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.ended = true
		g.changed.Broadcast()
	}()
	if e, ok := s.Next(); ok {
		t.Errorf("an event of a dead guest: %+v", e)
	}
}

func TestFrame(t *testing.T) {
	for output, want := range map[string]bool{
		"=== RUN   TestA\n":                    true,
		"    --- PASS: TestA/x (0.00s)\n":      true,
		"=== ATTR  TestA key value\n":          true,
		"    a_test.go:1: --- not a frame\n":   false,
		"    --- what a test may print\n":      false,
		"    a_test.go:1: === RUN is a word\n": false,
	} {
		e := Event{Output: output}
		if e.Frame() != want {
			t.Errorf("%q: %v", output, !want)
		}
	}
}

func TestFlagsCombineSkips(t *testing.T) {
	for _, tt := range []struct{ user, ours, want string }{
		{"", "", ""}, {"A", "", "A"}, {"", "B", "B"}, {"A", "B", "A|B"},
	} {
		f := Flags{Skip: tt.user, Count: 1}
		args, _ := f.args(tt.ours)
		got := ""
		for _, a := range args {
			if skip, ok := strings.CutPrefix(a, "-test.skip="); ok {
				got = skip
			}
		}
		if got != tt.want {
			t.Errorf("%q and %q: %q, want %q", tt.user, tt.ours, got, tt.want)
		}
	}
}
