package guest

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// A test is a sequence of steps, such as a schedule, a fault, or the set-up of a
// device. Each has a deadline of its own, hundreds of times what it takes: a
// kernel that never ends one is found by that.
const stepLimit = 90 * time.Second

// benefit is how many times that a step may take if nothing is seen in the kernel
// that keeps it from ending: the host may be busy.
const benefit = 5

// watched is the test that runs, and the step that it is at.
var watched watch

type watch struct {
	sync.Mutex
	t     *testing.T // nil between tests
	step  string
	again string // how to run the step alone; "" if it is by running the test
	// beats is how often the watch has beaten since the step began, once a second.
	// A guest that is not given the time to run does not beat.
	beats   int
	steps   int // of this test so far
	ran     int // schedules, of all tests so far
	started sync.Once
}

func (w *watch) begin(t *testing.T) {
	w.started.Do(func() { go w.run() })
	w.Lock()
	w.t, w.steps = t, 0
	w.Unlock()
	step("begin", "")
	t.Cleanup(func() {
		w.Lock()
		w.t = nil
		w.Unlock()
	})
}

// step says what the running test does next, and how to do that again alone.
func step(what, again string) {
	w := &watched
	w.Lock()
	w.step, w.again, w.beats = what, again, 0
	w.steps++
	t, steps := w.t, w.steps
	w.Unlock()
	endEarly(t, steps)
}

// beginSchedule says that the running test runs that schedule next.
func beginSchedule(id string) {
	watched.Lock()
	watched.ran++
	watched.Unlock()
	step("schedule "+id, again(id))
}

// announceSchedule is beginSchedule that tells the host as well, for a guest that dies of
// it. This takes about a millisecond: too much for a schedule of one breakpoint.
func announceSchedule(t *testing.T) func(id string) {
	return func(id string) {
		beginSchedule(id)
		attribute(t, contract.AttrAt, contract.At{Doing: "schedule " + id, Again: again(id)})
	}
}

// again is the command that runs a schedule alone.
func again(id string) string { return fmt.Sprintf("go test ./vmtests -run 'Schedules/%s'", id) }

// sayEvery is after how many beats the host is told how far the test is: it takes
// a guest for hung whose tests say nothing.
const sayEvery = 5

func (w *watch) run() {
	for beats := 0; ; beats++ {
		time.Sleep(time.Second)
		w.Lock()
		if w.t == nil {
			w.Unlock()
			continue
		}
		if beats%sayEvery == 0 {
			attribute(w.t, contract.AttrAt, contract.At{Doing: w.step, Schedules: w.ran})
		}
		w.beats++
		took := time.Duration(w.beats) * time.Second
		late := took%stepLimit == 0
		overdue, at := contract.Overdue{What: w.step, Again: w.again, Limit: took}, w.steps
		w.Unlock()
		if !late {
			continue
		}
		overdue.Seen = stuck()
		w.Lock()
		if w.t != nil && w.steps == at && (len(overdue.Seen) > 0 || took >= benefit*stepLimit) {
			// The host ends the guest.
			attribute(w.t, contract.AttrOverdue, overdue)
		}
		w.Unlock()
	}
}

// looks is how often, a second apart, stuck looks for what keeps the kernel from
// ending a step.
const looks = 5

// stuck says what keeps the kernel from ending a step: what it sees each time.
func stuck() (seen []string) {
	before, err := transmits()
	if err != nil {
		return nil
	}
	asleep := make(map[string]int) // looks, by thread and where it sleeps
	for range looks {
		time.Sleep(time.Second)
		for _, thread := range uninterruptible() {
			asleep[thread]++
		}
	}
	// A txq that runs although its driver takes nothing is run again and again
	// (net/sched/sch_generic.c: dev_requeue_skb, net/core/dev.c: net_tx_action).
	const often = 500 * looks
	if after, err := transmits(); err == nil && after-before > often {
		seen = append(seen, fmt.Sprintf("the softirq that runs qdiscs ran %d times in %d seconds in which the test sent nothing: a txq spins", after-before, looks))
	}
	for _, thread := range slices.Sorted(maps.Keys(asleep)) {
		if asleep[thread] == looks {
			seen = append(seen, thread)
		}
	}
	return seen
}

// uninterruptible lists the threads of this program that the kernel does not let
// go.
func uninterruptible() (threads []string) {
	stats, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil {
		return nil
	}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue
		}
		// Documentation/filesystems/proc.rst: the state follows the name.
		if _, state, _ := bytes.Cut(text, []byte(") ")); !bytes.HasPrefix(state, []byte("D")) {
			continue
		}
		dir := filepath.Dir(stat)
		where, err := os.ReadFile(filepath.Join(dir, "wchan"))
		if err != nil || len(where) == 0 || where[0] == '0' {
			where = []byte("a function that wchan does not name")
		}
		threads = append(threads, fmt.Sprintf("thread %s of the test sleeps in %s and cannot be interrupted", filepath.Base(dir), where))
	}
	return threads
}

// transmits is how often NET_TX softirqs have run on any CPU.
func transmits() (sum uint64, err error) {
	file, err := os.Open("/proc/softirqs")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] != "NET_TX:" {
			continue
		}
		for _, count := range fields[1:] {
			n, err := strconv.ParseUint(count, 10, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// early has each test end early, to see that it still leaves no promise without a
// verdict: the first test of a top-level test at its first step, the second at its
// second, and so on. RINGPROOF_END says how.
var early = struct {
	how  string
	root string
	nth  int // test of the root
	of   *testing.T
}{how: os.Getenv("RINGPROOF_END")}

func endEarly(t *testing.T, steps int) {
	if early.how == "" || t == nil {
		return
	}
	if root, _, _ := strings.Cut(t.Name(), "/"); root != early.root {
		early.root, early.nth = root, 0
	}
	if early.of != t {
		early.of = t
		early.nth++
	}
	if steps != early.nth {
		return
	}
	switch early.how {
	case "fatal":
		t.Fatalf("ended early, at step %d: %s", steps, watched.step)
	case "panic":
		panic(fmt.Sprintf("ended early, at step %d: %s", steps, watched.step))
	case "goexit":
		runtime.Goexit()
	case "exit":
		os.Exit(0)
	case "hang":
		select {}
	}
}
