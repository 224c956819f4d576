package guest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/inject/fault"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"pgregory.net/rapid"
)

// faultsOn does so on a device that is opened with IFF_BACKPRESSURE or without.
func faultsOn(t *testing.T, backpressure bool) {
	begin(t, contract.NoStall)
	c := contractOf(t)
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	duration, err := time.ParseDuration(os.Getenv("FAULTS"))
	if err != nil {
		t.Fatal(err)
	}
	s := &sequences{backpressure: backpressure, noFailing: fault.CanFail()}
	if missing := (*kernelfeature.MissingError)(nil); errors.As(s.noFailing, &missing) {
		t.Logf("not tried: %s, for which this kernel lacks %s", missing.What, missing.Option)
	} else if s.noFailing != nil {
		t.Fatal(s.noFailing)
	}
	defer s.close(t)
	began := time.Now()
	rounds := uint64(0)
	for ; rounds == 0 || time.Since(began) < duration && !noTime(t); rounds++ {
		s.turn(t, seed+rounds)
		if f := s.round(t, seed+rounds); f != nil {
			f.Contract = c
			s.again(t, f)
			if onlySuspected(t, f) {
				continue
			}
			found := make(findings)
			found.add(t, f)
			outcome, why := f.Outcome()
			report(t, contract.Verdict{Promise: f.Promise, Contract: c, Outcome: outcome, Why: why + ", after a sequence of faults", Books: f.Books})
			if f.Promise != contract.NoStall {
				report(t, contract.Verdict{Promise: contract.NoStall, Contract: c, Outcome: contract.Undecided, Why: fmt.Sprintf("the sequences end with one that breaks %s", f.Promise)})
			}
			return
		}
	}
	report(t, contract.Verdict{Promise: contract.NoStall, Contract: c, Outcome: contract.Kept, Why: fmt.Sprintf("%s of %s, from seed %d on", contract.Count(s.run, "sequence"), contract.Count(s.injected, "fault"), seed)})
}

// sequences runs one sequence after the other, on one device for as long as it
// moves.
type sequences struct {
	backpressure  bool
	consumer      driver.Consumer
	seed          uint64          // that the sequence which runs is made from
	noFailing     error           // why allocations cannot be made to fail
	faults        []*driver.Fault // that the device can have
	device        *fault.Sequence
	run, injected int
	// last is what the sequence that ran last broke; nil is nothing. chosen
	// is that sequence.
	last   *contract.Finding
	chosen [][2]int
	// suspect is the shortest one's so far, of this round, and suspected that sequence.
	suspect   *contract.Finding
	suspected [][2]int
}

// again runs the sequence that ran last on a device of its own, as often as it
// is to be replayed and with more patience, and counts how often it breaks its
// promise.
func (s *sequences) again(t *testing.T, f *contract.Finding) {
	t.Helper()
	var err error
	if f.Tries, err = replays(); err != nil {
		t.Fatal(err)
	}
	for range f.Tries {
		device, err := fault.NewSequence(subject, s.backpressure, s.consumer)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.chosen {
			s.step(c)
			if err := device.Inject(s.faults[c[0]], c[1]); err != nil {
				t.Fatal(err)
			}
		}
		s.step(settles)
		result, err := device.Settle(stage.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if promise, why := contractOf(t).Breach(&result.Seen); promise == f.Promise {
			f.Failed++
			f.Why, f.Books = why, result.Books
		}
		if err := device.Close(); err != nil {
			t.Error(err)
		}
	}
}

// settles stands for what ends a sequence.
var settles = [2]int{-1}

// step says that the next of a sequence of faults is to come.
func (s *sequences) step(chosen [2]int) {
	what := "the end of a sequence of faults"
	if chosen != settles {
		what = fmt.Sprintf("fault %q with %d", s.faults[chosen[0]].Name, chosen[1])
	}
	step(what, fmt.Sprintf("SEED=%d go test ./vmtests -run '^TestFaults$'", s.seed))
}

// turn makes the seeds in turn those of devices with each of the consumers that the
// kernel has.
func (s *sequences) turn(t *testing.T, seed uint64) {
	var has []driver.Consumer
	for _, target := range subject.Targets {
		if !slices.Contains(has, target.Consumer) && (target.Available == nil || target.Available() == nil) {
			has = append(has, target.Consumer)
		}
	}
	if now := has[int((seed+1)%uint64(len(has)))]; now != s.consumer {
		s.close(t)
		s.consumer = now
	}
}

func (s *sequences) close(t *testing.T) {
	if s.device != nil {
		if err := s.device.Close(); err != nil {
			t.Error(err)
		}
		s.device = nil
	}
}

// round tries a few sequences that are made from a seed, and returns the
// shortest that breaks a promise, or nil.
func (s *sequences) round(t *testing.T, seed uint64) *contract.Finding {
	t.Helper()
	for name, value := range map[string]string{"checks": "5", "steps": "12", "seed": fmt.Sprint(seed), "nofailfile": "true", "shrinktime": "20s"} {
		if err := flag.Set("rapid."+name, value); err != nil {
			t.Fatal(err)
		}
	}
	s.seed, s.suspect = seed, nil
	quiet := &quiet{T: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		rapid.Check(quiet, func(rt *rapid.T) { s.sequence(t, rt) })
	}()
	<-done
	if !quiet.failed {
		return nil
	}
	if s.last == nil && s.suspect != nil {
		// It broke something and did not do so again, while rapid looked for a
		// shorter one: replays decide.
		s.last, s.chosen = s.suspect, s.suspected
	}
	if s.last == nil {
		report(t, contract.Verdict{Promise: contract.NoStall, Contract: contractOf(t), Outcome: contract.Undecided, Why: fmt.Sprintf("a sequence of faults from seed %d could not be judged", seed)})
		t.Fatal(strings.Join(quiet.said, "\n"))
	}
	s.last.Seed = seed
	return s.last
}

// sequence is one: rapid draws its faults, and draws fewer and smaller ones
// once it has failed.
func (s *sequences) sequence(t *testing.T, rt *rapid.T) {
	var err error
	if s.device == nil {
		step("make a device for sequences of faults", "")
		if s.device, err = fault.NewSequence(subject, s.backpressure, s.consumer); err != nil {
			rt.Fatal(err)
		}
		s.faults = slices.DeleteFunc(fault.Faults(subject, s.consumer), func(f *driver.Fault) bool {
			return f.OptIn && contractOf(t) != contract.OptIn || f.Failing && s.noFailing != nil
		})
	}
	s.run++
	s.last = nil
	if err := s.device.Restart(); err != nil {
		rt.Fatal(err)
	}
	chosen := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) [2]int {
		fault := rapid.IntRange(0, len(s.faults)-1).Draw(rt, "fault")
		n := 0
		if arguments := s.faults[fault].Arguments; len(arguments) > 0 {
			n = rapid.SampledFrom(arguments).Draw(rt, "n")
		}
		return [2]int{fault, n}
	}), 1, 12).Draw(rt, "faults")
	s.chosen = chosen
	for _, c := range chosen {
		s.injected++
		s.step(c)
		if err := s.device.Inject(s.faults[c[0]], c[1]); err != nil {
			script := s.device.Script()
			s.close(t)
			rt.Fatalf("%v\n%s", err, script)
		}
	}
	s.step(settles)
	result, err := s.device.Settle(2 * stage.Suspicion)
	if err != nil {
		script := s.device.Script()
		s.close(t)
		rt.Fatalf("%v\n%s", err, script)
	}
	promise, why := contractOf(t).Breach(&result.Seen)
	switch {
	case promise != "":
		s.last = &contract.Finding{Promise: promise, Why: why, Books: result.Books, Script: s.device.Script()}
		s.suspect, s.suspected = s.last, chosen
		s.close(t)
		rt.Fatal(why)
	case result.Unbalanced != nil:
		script := s.device.Script()
		s.close(t)
		rt.Fatalf("%v\n%s", result.Unbalanced, script)
	}
}

// quiet keeps to itself what rapid says, for a finding says it better.
type quiet struct {
	*testing.T
	failed bool
	said   []string
}

func (q *quiet) Logf(format string, args ...any) {
	q.said = append(q.said, fmt.Sprintf(format, args...))
}
func (q *quiet) Log(args ...any)              { q.said = append(q.said, fmt.Sprint(args...)) }
func (q *quiet) Fail()                        { q.failed = true }
func (q *quiet) Failed() bool                 { return q.failed }
func (q *quiet) Error(args ...any)            { q.Log(args...); q.Fail() }
func (q *quiet) Errorf(f string, args ...any) { q.Logf(f, args...); q.Fail() }
func (q *quiet) FailNow()                     { q.Fail(); runtime.Goexit() }
func (q *quiet) Fatal(args ...any)            { q.Log(args...); q.FailNow() }
func (q *quiet) Fatalf(f string, args ...any) { q.Logf(f, args...); q.FailNow() }
