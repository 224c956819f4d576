package gotest

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// expected is a top-level test, and about how long it takes.
type expected struct {
	test        string
	long, short time.Duration
}

// tests are those of vmtests, with what each took on 7.3-rc7 on two cores without
// KVM. How they compare is what counts: a machine's own pace shows as it goes.
var tests = []expected{
	{"TestBaseline", 0, 0}, // left out, unless BASELINE is set
	{"TestKernel", 0, 0},
	{"TestMirror", 0, 0},
	{"TestNoqueueDrops", 61 * time.Second, 20 * time.Second},
	{"TestNoStall", 37 * time.Second, 11 * time.Second},
	{"TestNoTailDrop", 232 * time.Second, 54 * time.Second},
	{"TestBackpressureFlag", 4 * time.Second, 5 * time.Second},
	{"TestRequeue", time.Second, 0},
	{"TestRequeueSchedules", 54 * time.Second, 0},
	{"TestFaults", 11 * time.Second, 0},
	{"TestStoreSchedules", 60 * time.Second, 0},
	{"TestPairSchedules", 338 * time.Second, 0},
	{"TestSchedules", 829 * time.Second, 47 * time.Second},
	{"TestControlSchedules", 224 * time.Second, 0},
}

// expect returns the tests that go test runs with these arguments, each with the
// time that it takes as long; nil if that cannot be told.
func expect(args []string) []expected {
	run, skip, short := "", "", false
	for _, arg := range args {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "-run":
			run = value
		case "-skip":
			skip = value
		case "-short":
			short = true
		}
	}
	// A pattern with a slash takes a part of a test, and nobody knows how much.
	if strings.Contains(run, "/") {
		return nil
	}
	wanted, err := regexp.Compile(run)
	if err != nil {
		return nil
	}
	var mine []expected
	for _, e := range tests {
		if short {
			e.long = e.short
		}
		if wanted.MatchString(e.test) && !skipped(skip, e.test) {
			mine = append(mine, e)
		}
	}
	return mine
}

// skipped says whether -skip leaves out all of a test: its alternatives are
// separated by "|" outside of brackets, as go test has it (testing:
// splitRegexp).
func skipped(skip, test string) bool {
	depth, from := 0, 0
	matches := func(pattern string) bool {
		if pattern == "" || strings.Contains(pattern, "/") {
			return false
		}
		matched, err := regexp.MatchString(pattern, test)
		return err == nil && matched
	}
	for i, c := range skip {
		switch c {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case '|':
			if depth == 0 {
				if matches(skip[from:i]) {
					return true
				}
				from = i + 1
			}
		}
	}
	return matches(skip[from:])
}

// ended notes how long a top-level test took.
func (f *follower) ended(test string) {
	i := slices.IndexFunc(f.expect, func(e expected) bool { return e.test == test })
	if i < 0 {
		return
	}
	f.took += time.Since(f.began)
	f.expected += f.expect[i].long
	f.expect = f.expect[i+1:]
	f.estimate()
}

// estimate says how long the rest takes, at the pace so far.
func (f *follower) estimate() {
	if len(f.expect) == 0 {
		f.meter.Left(0)
		return
	}
	// One test says little of the others.
	const enough = 10 * time.Second
	pace := 1.0
	if f.expected >= enough {
		pace = float64(f.took) / float64(f.expected)
	}
	var left time.Duration
	for i, e := range f.expect {
		takes := time.Duration(pace * float64(e.long))
		if i == 0 && len(f.running) > 0 {
			takes = max(takes-time.Since(f.began), 0)
		}
		left += takes
	}
	f.meter.Left(left)
}

// shardOf is a part of the time that all tests take.
func shardOf(all []expected, shard contract.Shard) []expected {
	if shard.Of == 0 {
		return all
	}
	var part []expected
	for _, e := range all {
		e.long /= time.Duration(shard.Of)
		part = append(part, e)
	}
	return part
}
