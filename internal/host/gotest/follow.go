package gotest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/meter"
)

// follower shows how far go test is.
type follower struct {
	meter   *meter.Meter
	expect  []expected
	said    strings.Builder // what was printed other than by tests that passed
	running []string        // from the outermost to the innermost test
	booted  bool
	packets int
	// schedules is how many were run, timed of them in so many seconds in which some
	// were: heard is what the guest said of them last, and when.
	schedules int
	timed     int
	seconds   float64
	heard     int
	heardAt   time.Time
	// began is when the top-level test began that runs, and took what those before
	// it have taken of what was expected of them.
	began          time.Time
	took, expected time.Duration
}

// follow counts the checks that are decided, the schedules and the packets, and
// shows which test runs, until go test ends.
func (f *follower) follow(events io.Reader) {
	f.meter.Doing("go test compiles the tests")
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 16<<20) // a finding is one line
	for lines.Scan() {
		var e struct{ Action, Test, Output, Key, Value string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch e.Action {
		case "output":
			f.said.WriteString(e.Output)
			continue
		case "attr":
			f.attr(e.Key, e.Value)
			continue
		case "run":
			f.running = append(f.running, e.Test)
			f.booted = f.booted || strings.Contains(e.Test, "/") // the guest's word
			if !strings.Contains(e.Test, "/") {
				f.began = time.Now()
			}
		case "pass", "fail", "skip":
			f.running = slices.DeleteFunc(f.running, func(test string) bool { return test == e.Test })
			f.booted = true
			if !strings.Contains(e.Test, "/") {
				f.ended(e.Test)
			}
		}
		switch {
		case len(f.running) == 0:
			f.meter.Doing("between two tests")
		case !f.booted: // which the first test waits for
			f.meter.Doing("building what the VM runs, and booting it")
		default:
			f.meter.Doing(f.running[len(f.running)-1])
		}
	}
}

func (f *follower) attr(key, value string) {
	switch {
	case slices.Contains(contract.Promises(), contract.Promise(key)):
		f.meter.Add(1)
	case key == contract.AttrPackets:
		n, _ := strconv.Atoi(value)
		f.packets += n
		f.counts()
	case key == contract.AttrAt:
		what, _ := contract.Attribute(key, value)
		at, ok := what.(contract.At)
		if !ok {
			return
		}
		if at.Schedules < f.heard { // another guest, which counts anew
			f.heard = 0
		}
		more := at.Schedules - f.heard
		f.schedules += more
		if more > 0 && !f.heardAt.IsZero() {
			f.timed += more
			f.seconds += time.Since(f.heardAt).Seconds()
		}
		f.heard, f.heardAt = at.Schedules, time.Now()
		f.counts()
		f.estimate()
	}
}

// counts shows what is counted besides checks.
func (f *follower) counts() {
	var counts []string
	if f.schedules > 0 {
		text := contract.Count(f.schedules, "schedule")
		if f.seconds > 0 {
			text += fmt.Sprintf(" (%.0f/s)", float64(f.timed)/f.seconds)
		}
		counts = append(counts, text)
	}
	if f.packets > 0 {
		counts = append(counts, contract.Count(f.packets, "packet"))
	}
	f.meter.Also(strings.Join(counts, ", "))
}
