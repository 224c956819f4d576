package vmtests

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
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
	(&replay{run: r, stream: stream}).test(t, t.Name())
}

// replay turns the events of one top-level test into tests of the host.
type replay struct {
	run    *run.Run
	stream *run.Stream
}

// test replays the test of that name in the guest until it ends.
func (r *replay) test(t *testing.T, name string) {
	leaf := true
	for {
		e, ok := r.stream.Next()
		if !ok {
			r.cutOff(t, name)
			return
		}
		switch e.Action {
		case "run":
			leaf = false
			t.Run(strings.TrimPrefix(e.Test, name+"/"), func(t *testing.T) { r.test(t, e.Test) })
		case "output":
			if !e.Frame() {
				io.WriteString(t.Output(), strings.TrimPrefix(e.Output, "    "))
			}
		case "attr":
			r.attr(t, e)
		case "pass", "fail", "skip":
			r.claim(t, name)
			if e.Action == "fail" {
				t.Fail()
			}
			if leaf {
				r.count(t, e.Action)
			}
			if e.Action == "skip" && !t.Failed() {
				t.SkipNow()
			}
			return
		}
	}
}

func (r *replay) count(t *testing.T, ended string) {
	if t.Failed() {
		ended = "fail"
	}
	r.run.Count(ended)
}

// cutOff ends a test that the guest did not. The innermost one is to blame.
func (r *replay) cutOff(t *testing.T, name string) {
	if t.Failed() {
		return // a subtest was
	}
	why := r.stream.Guest().Died()
	if why == "" {
		why = "the guest's events end before this test does"
	}
	r.run.Lost(name, why)
	r.run.Count("fail")
	t.Error(why)
	r.claim(t, name)
}

func (r *replay) attr(t *testing.T, e run.Event) {
	switch e.Key {
	case contract.AttrMarked:
		r.stream.Guest().Marked(e.Test)
	case contract.AttrVerdict:
		var v contract.Verdict
		if err := json.Unmarshal([]byte(e.Value), &v); err != nil {
			t.Errorf("the guest's verdict %q: %v", e.Value, err)
			return
		}
		r.run.Verdict(v)
		t.Attr(string(v.Promise), string(v.Outcome))
	case contract.AttrUnknown:
		var paths contract.Paths
		if err := json.Unmarshal([]byte(e.Value), &paths); err != nil {
			t.Errorf("the guest's unknown paths %q: %v", e.Value, err)
			return
		}
		r.run.Unknown(paths)
	case contract.AttrFinding:
		var f contract.Finding
		if err := json.Unmarshal([]byte(e.Value), &f); err != nil {
			t.Errorf("the guest's finding %q: %v", e.Value, err)
			return
		}
		if where := r.run.Finding(f); where != "" {
			t.Log(where)
		}
	default:
		t.Attr(e.Key, e.Value)
	}
}

// claim fails the test for what the kernel reported while it ran.
func (r *replay) claim(t *testing.T, name string) {
	reports, err := r.stream.Guest().Claim(name)
	if err != nil {
		t.Error(err)
	}
	for _, report := range reports {
		if report.Kind == vm.Panic {
			continue // the guest's death, of which cutOff tells
		}
		t.Errorf("the kernel reported %s: %s\n%s", report.Kind, report.Title, report.Text)
		r.run.Error(name + ": " + report.Title)
	}
}
