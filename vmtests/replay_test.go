package vmtests

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/run"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// inGuest makes t what the guest's test of the same name is.
func inGuest(t *testing.T) {
	t.Helper()
	r := startRun(t)
	others := slices.DeleteFunc(testsIn(t, "guest"), func(name string) bool { return name == t.Name() })
	stream, err := r.Test(t.Name(), others)
	if err != nil {
		t.Fatal(err)
	}
	first, ok := stream.Next()
	if !ok || first.Action != "run" || first.Test != t.Name() {
		t.Fatalf("the guest's events begin with %+v, not with the start of %s", first, t.Name())
	}
	(&replay{run: r, stream: stream, others: others, seen: make(map[string]bool)}).test(t, t.Name())
}

// replay turns the events of one top-level test into tests of the host.
type replay struct {
	run    *run.Run
	stream *run.Stream
	others []string
	// seen are the subtests so far, of which last is the last. If a guest dies,
	// the next one does not run them again.
	seen map[string]bool
	last string
	// death is why the guest died, told by the innermost test; "" if it has not.
	death string
	// deaths counts the guests that died.
	deaths int
}

// test replays the test of that name in the guest until it ends.
func (r *replay) test(t *testing.T, name string) {
	check := r.run.Check(name)
	leaf := true
	for {
		e, ok := r.stream.Next()
		if !ok {
			if r.death == "" {
				r.cutOff(t, check, name)
			}
			if strings.Contains(name, "/") || !r.resume(t, name) {
				return
			}
			continue
		}
		switch e.Action {
		case "run":
			leaf = false
			if r.seen[e.Test] {
				r.skim(e.Test)
				continue
			}
			r.seen[e.Test], r.last = true, e.Test
			if !t.Run(strings.TrimPrefix(e.Test, name+"/"), func(t *testing.T) { r.test(t, e.Test) }) {
				check.Told()
			}
		case "output":
			if !e.Frame() {
				line := strings.TrimPrefix(e.Output, "    ")
				check.Said(line)
				io.WriteString(t.Output(), line)
			}
		case "attr":
			r.attr(t, check, e)
		case "pass", "fail", "skip":
			r.claim(t, check, name)
			if e.Action == "fail" {
				t.Fail()
			}
			ended := e.Action
			if t.Failed() {
				ended = "fail"
			}
			check.Ended(ended)
			if leaf {
				r.run.Count(name, ended)
			}
			if ended == "skip" {
				t.SkipNow()
			}
			return
		}
	}
}

// mostDeaths is after how many guests that died in one top-level test the rest of
// it is given up: a kernel that dies each time would take for ever.
const mostDeaths = 3

// resume has another guest run the subtests that the dead one has left, and says
// whether there is one.
func (r *replay) resume(t *testing.T, name string) bool {
	t.Helper()
	why := r.death
	r.deaths++
	if r.last != "" && r.deaths < mostDeaths {
		stream, err := r.run.Resume(name, r.last, r.others)
		if err != nil { // which the run has recorded
			t.Error(err)
			return false
		}
		stream.Next() // the test's own start
		r.stream, r.death = stream, ""
		return true
	}
	r.run.Lost(name, why)
	return false
}

// skim passes over the events of a subtest that an earlier guest has run.
func (r *replay) skim(name string) {
	for {
		e, ok := r.stream.Next()
		if !ok || e.Test == name && slices.Contains([]string{"pass", "fail", "skip"}, e.Action) {
			return
		}
	}
}

// cutOff ends a test that the guest did not. The innermost one is to blame.
func (r *replay) cutOff(t *testing.T, check *run.Check, name string) {
	t.Helper()
	var whose report.Kind
	if r.death, whose = r.stream.Guest().Death(); r.death == "" {
		r.death, whose = "the guest's events end before this test does", report.Harness
	}
	title, _, _ := strings.Cut(r.death, "\n")
	title += check.Panic()
	t.Error(r.death)
	if !check.Overdue(r.death) {
		check.Fault(whose, title)
	}
	r.claim(t, check, name)
	check.Ended(title)
	r.run.Count(name, "fail")
}

func (r *replay) attr(t *testing.T, check *run.Check, e run.Event) {
	what, err := check.Attribute(e.Key, e.Value)
	if err != nil {
		t.Error(err)
		return
	}
	switch what := what.(type) {
	case contract.At:
		tell(t, e.Key, e.Value)
	case contract.Overdue:
		r.stream.Guest().End(what.What + " is overdue")
	case contract.Verdict:
		t.Attr(string(what.Promise), string(what.Outcome))
		if what.Books != nil {
			tell(t, contract.AttrPackets, fmt.Sprint(what.Books.Offered))
		}
	case contract.Finding:
		if where := r.run.Finding(e.Test, what); where != "" {
			t.Log(where)
		}
	case nil:
		if e.Key == contract.AttrMarked {
			r.stream.Guest().Marked(e.Test)
		} else {
			t.Attr(e.Key, e.Value)
		}
	}
}

// tell tells a program that follows go test -json how far the tests are, and nobody
// who reads go test -v.
func tell(t *testing.T, key, value string) {
	if flag.Lookup("test.v").Value.String() == "test2json" {
		t.Attr(key, value)
	}
}

// claim fails the test for what the kernel reported while it ran, if that may
// have to do with the device under test.
func (r *replay) claim(t *testing.T, check *run.Check, name string) {
	t.Helper()
	reports, err := r.stream.Guest().Claim(name)
	if err != nil {
		t.Error(err)
		check.Fault(report.Harness, err.Error())
	}
	for _, k := range reports {
		switch why := r.run.Noise(k); {
		case k.Kind == vm.Panic:
			// The guest's death, of which cutOff tells.
		case why != "":
			t.Logf("the kernel reported %s: %s (%s: this decides nothing)\n%s", k.Kind, k.Title, why, k.Text)
		default:
			t.Errorf("the kernel reported %s: %s\n%s", k.Kind, k.Title, k.Text)
			check.Reported(k)
		}
	}
}
