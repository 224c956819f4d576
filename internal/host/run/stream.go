package run

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Event is one line of go tool test2json, as `go doc test2json` describes it.
type Event struct {
	Time    time.Time `json:",omitzero"`
	Action  string
	Test    string  `json:",omitempty"`
	Elapsed float64 `json:",omitempty"`
	Output  string  `json:",omitempty"`
	Key     string  `json:",omitempty"`
	Value   string  `json:",omitempty"`
}

// root is the top-level test that an event belongs to.
func (e *Event) root() string {
	root, _, _ := strings.Cut(e.Test, "/")
	return root
}

// ends reports whether no event of the same test follows.
func (e *Event) ends() bool {
	return e.Action == "pass" || e.Action == "fail" || e.Action == "skip"
}

// Frame reports whether the event is output that only frames tests, such as
// "=== RUN" and "--- PASS", which whoever replays the test prints again.
func (e *Event) Frame() bool {
	line := strings.TrimLeft(e.Output, " ")
	for _, frame := range []string{"=== RUN ", "=== PAUSE ", "=== CONT ", "=== NAME ", "=== ATTR ", "--- PASS: ", "--- FAIL: ", "--- SKIP: "} {
		if strings.HasPrefix(line, frame) {
			return true
		}
	}
	return false
}

// Stream is one execution of one top-level test and its subtests: the events,
// in order, as they arrive.
type Stream struct {
	guest  *Guest
	events []Event // guarded by guest.mu
	next   int     // guarded by guest.mu
	closed bool    // guarded by guest.mu
}

// Next returns the next event, waiting for it. It returns false after the
// last one: the test has ended, or the guest has.
func (s *Stream) Next() (Event, bool) {
	g := s.guest
	g.mu.Lock()
	defer g.mu.Unlock()
	for s.next == len(s.events) && !s.closed && !g.ended {
		g.changed.Wait()
	}
	if s.next == len(s.events) {
		return Event{}, false
	}
	e := s.events[s.next]
	s.next++
	return e, true
}

// Guest returns the VM that runs the test.
func (s *Stream) Guest() *Guest { return s.guest }

// sort reads test2json's lines, copies them to log and hands each to the
// stream of its test, until r ends.
func (g *Guest) sort(r io.Reader, log io.Writer) error {
	open := map[string]*Stream{}
	tail := false
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			// An artifact that can't be written must not cost results:
			// whoever owns log remembers its error.
			_, _ = log.Write(line)
			var e Event
			if err := json.Unmarshal(line, &e); err != nil {
				return fmt.Errorf("test2json said %q: %w", line, err)
			}
			// test2json cuts output lines that are long, attributes too: what
			// follows the beginning would be taken for output of the test.
			output := e.Action == "output"
			if !output || !tail {
				g.deliver(open, e)
			}
			if output {
				tail = (tail || strings.HasPrefix(e.Output, "=== ATTR ")) && !strings.HasSuffix(e.Output, "\n")
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read test events: %w", err)
		}
	}
}

func (g *Guest) deliver(open map[string]*Stream, e Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.changed.Broadcast()
	g.heard = time.Now()
	g.late = g.late || strings.HasPrefix(e.Output, "panic: test timed out after ")
	root := e.root()
	if e.Action == "run" && e.Test == root {
		s := &Stream{guest: g}
		open[root] = s
		g.streams[root] = append(g.streams[root], s)
	}
	s := open[root]
	g.testing = s != nil
	if s == nil {
		// Output of no test: a panic outside of one, a usage message.
		if e.Action == "output" && e.Output != "PASS\n" && e.Output != "FAIL\n" {
			g.loose.WriteString(e.Output)
		}
		return
	}
	s.events = append(s.events, e)
	if e.ends() && e.Test == root {
		s.closed = true
		delete(open, root)
		g.testing = false
	}
}

// take returns the first execution of a top-level test that nobody has taken
// yet, waiting for it; nil if the guest ended without it.
func (g *Guest) take(test string) *Stream {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.streams[test]) == 0 && !g.ended {
		g.changed.Wait()
	}
	if len(g.streams[test]) == 0 {
		return nil
	}
	s := g.streams[test][0]
	g.streams[test] = g.streams[test][1:]
	return s
}
