package contract

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A test tells the host what it finds out by testing.T.Attr, which go test -json
// passes on. These are the keys, and each value is the type's JSON on one line.
const (
	// AttrVerdict carries a Verdict.
	AttrVerdict = "ringproof.verdict"
	// AttrFinding carries a Finding.
	AttrFinding = "ringproof.finding"
	// AttrUnknown carries Paths that the ledger does not know.
	AttrUnknown = "ringproof.unknown"
	// AttrBaseline carries a Baseline.
	AttrBaseline = "ringproof.baseline"
	// AttrMarked says that the test writes MarkBegin and MarkEnd.
	AttrMarked = "ringproof.marked"
	// AttrOwes carries Owes. It comes before anything that may end the test.
	AttrOwes = "ringproof.owes"
	// AttrAt carries At. It comes every few seconds while a test runs, and before a
	// schedule that takes much longer than to say so.
	AttrAt = "ringproof.at"
	// AttrPackets is how many packets were offered in a check that is decided: the
	// host's word to whoever follows it.
	AttrPackets = "ringproof.packets"
	// AttrOverdue carries Overdue. The guest waits to be ended.
	AttrOverdue = "ringproof.overdue"
)

// Attribute decodes an attribute of a test: a Verdict, Finding, Paths, Baseline, Owes,
// At or Overdue. It returns nil for a key that carries none of them.
func Attribute(key, value string) (any, error) {
	switch key {
	case AttrVerdict:
		return attribute[Verdict](key, value)
	case AttrFinding:
		return attribute[Finding](key, value)
	case AttrUnknown:
		return attribute[Paths](key, value)
	case AttrBaseline:
		return attribute[Baseline](key, value)
	case AttrOwes:
		return attribute[Owes](key, value)
	case AttrAt:
		return attribute[At](key, value)
	case AttrOverdue:
		return attribute[Overdue](key, value)
	}
	return nil, nil
}

func attribute[T any](key, value string) (any, error) {
	var v T
	if err := json.Unmarshal([]byte(value), &v); err != nil {
		return nil, fmt.Errorf("the attribute %s, %q: %w", key, value, err)
	}
	return v, nil
}

// At says how far a test is.
type At struct {
	// Doing is the step that it is at, in words.
	Doing string
	// Schedules is how many schedules the guest has run, of this test and those
	// before it.
	Schedules int `json:",omitempty"`
	// Again runs that step alone. It is there if the step is about to begin.
	Again string `json:",omitempty"`
}

// Baseline is what one way to look for bugs has found within a time.
type Baseline struct {
	// Method is "stress", "random" or "systematic".
	Method string
	Limit  time.Duration
	// Promise is the one that it saw broken; "" is none.
	Promise Promise
	// Tried is how many races there were, or schedules, and After how long it took.
	Tried int
	After time.Duration
}

// Owes says which promises a test is to decide. Whatever ends the test, the host
// records each that has no verdict then as undecided.
type Owes struct {
	Contract Contract
	Promises []Promise
}

// Overdue says that something that a test does has exceeded its deadline.
type Overdue struct {
	What  string // for example "schedule tun_net_xmit+0x1cb/zero/ring=2/fq_codel"
	Again string `json:",omitempty"` // how to do it alone
	Limit time.Duration
	// Seen is what keeps the kernel from ending it, a line each: a softirq that
	// runs for ever, a thread that the kernel does not let go. Without any, it is
	// not known whose fault this is.
	Seen []string `json:",omitempty"`
}

// Outcome is what that makes of NoStall: a txq that spins is as bad as one that
// sleeps.
func (o *Overdue) Outcome() (Outcome, string) {
	why := fmt.Sprintf("%s has not ended within %v", o.What, o.Limit)
	outcome := Broken
	if len(o.Seen) > 0 {
		why += ": " + strings.Join(o.Seen, "; ")
	} else {
		outcome, why = Undecided, why+", and nothing was seen in the kernel that keeps it from that"
	}
	if o.Again != "" {
		why += "; again: " + o.Again
	}
	return outcome, why
}
