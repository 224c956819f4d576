package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// Version is that of verdict.json's form, which docs/verdict.schema.json describes.
// It changes when a program that reads the form has to. Files without one are older,
// and are read all the same.
const Version = 1

// Read returns the run whose artifacts are in dir. Where verdict.json is missing or
// cut off, what events.jsonl holds is put together, and a fault says so.
func Read(dir string) (*Run, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "verdict.json")
	data, err := os.ReadFile(file)
	r := new(Run)
	if err == nil {
		err = json.Unmarshal(data, r)
	}
	if r.Version > Version {
		return nil, fmt.Errorf("%s has version %d, and this ringproof reads versions up to %d: it was written by a newer one", file, r.Version, Version)
	}
	if err != nil {
		if _, none := os.Stat(dir); none != nil {
			return nil, fmt.Errorf("no run: %w", none)
		}
		recovered, lost := recoverRun(dir)
		if lost != nil {
			return nil, fmt.Errorf("no run in %s: verdict.json: %w; events.jsonl: %w", dir, err, lost)
		}
		r = recovered
		r.Errors = append(r.Errors, Fault{Kind: SetUp, What: fmt.Sprintf("verdict.json is not whole (%v): this is what events.jsonl holds, and which kernel that was on is not known", err)})
	}
	r.Dir = dir
	r.attribute()
	return r, nil
}

// UnmarshalJSON reads a fault, which once was a string.
func (f *Fault) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &f.What) == nil {
		return nil
	}
	type plain Fault
	return json.Unmarshal(data, (*plain)(f))
}

// attribute finds the test that made each finding, which older runs did not keep: of
// a schedule, the test's name ends with the id, but for the qdisc of a pair.
func (r *Run) attribute() {
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Test != "" {
			continue
		}
		pair := strings.Replace(f.setting(), "/fq_codel", "", 1)
		if at := slices.IndexFunc(r.Verdicts, func(v contract.Verdict) bool {
			if v.Promise != f.Promise || v.Outcome != contract.Broken {
				return false
			}
			switch {
			case f.Script != "":
				return strings.HasPrefix(v.Test, "TestFaults")
			case f.pair():
				return strings.HasPrefix(v.Test, "TestPair") && strings.HasSuffix(v.Test, "/"+pair)
			}
			return strings.HasSuffix(v.Test, "/"+f.setting())
		}); at >= 0 {
			f.Test = r.Verdicts[at].Test
		}
	}
}

// recoverRun puts together what the events of a run tell.
func recoverRun(dir string) (*Run, error) {
	file, err := os.Open(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	r := &Run{Command: "go test ./vmtests", Errors: []Fault{{Kind: SetUp, What: "the run has not ended, or some of its artifacts are missing"}}}
	var last time.Time
	ended := make(map[string]string) // how, by test
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		var e struct {
			Time                     time.Time
			Action, Test, Key, Value string
		}
		if json.Unmarshal(line, &e) == nil {
			if r.Started.IsZero() {
				r.Started = e.Time
			}
			last = e.Time
			switch e.Action {
			case "run":
				for i, c := range e.Test {
					if c == '/' {
						delete(ended, e.Test[:i]) // no leaf
					}
				}
				ended[e.Test] = "fail" // until it says otherwise
			case "pass", "fail", "skip":
				if _, leaf := ended[e.Test]; leaf {
					ended[e.Test] = e.Action
				}
			case "attr":
				r.recoverAttribute(e.Test, e.Key, e.Value)
			}
		}
		if err != nil {
			break
		}
	}
	if last.IsZero() {
		return nil, errors.New("it holds no events")
	}
	for i := range r.Findings {
		// The verdict comes after it, and may be what was cut off.
		f := &r.Findings[i]
		if outcome, why := f.Outcome(); !slices.ContainsFunc(r.Verdicts, func(v contract.Verdict) bool { return v.Test == f.Test && v.Promise == f.Promise }) {
			r.Verdicts = append(r.Verdicts, contract.Verdict{Test: f.Test, Promise: f.Promise, Contract: f.Contract, Outcome: outcome, Why: why, Books: f.Books})
		}
	}
	r.Seconds = last.Sub(r.Started).Seconds()
	for _, how := range ended {
		switch how {
		case "pass":
			r.Tests.Passed++
		case "skip":
			r.Tests.Skipped++
		default:
			r.Tests.Failed++
		}
	}
	return r, nil
}

// recoverAttribute records what an attribute of a test carries. One that cannot be
// read is of another version, and is left out.
func (r *Run) recoverAttribute(test, key, value string) {
	what, _ := contract.Attribute(key, value)
	switch what := what.(type) {
	case contract.Verdict:
		r.Verdicts = append(r.Verdicts, what)
		r.Contract = what.Contract
	case contract.Finding:
		r.Findings = append(r.Findings, Finding{Finding: what, Test: test, Replay: r.ReplayFinding(&what)})
	case contract.Baseline:
		r.Baselines = append(r.Baselines, what)
	case contract.Paths:
		r.AddUnknown(what)
	}
}
