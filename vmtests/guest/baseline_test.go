package guest

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/schedule"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
)

// TestBaseline asks how the search for schedules compares with what is usual:
// plain stress, and holding a CPU up at random. Each has the same time, BASELINE,
// on the same machine, and stops at the first promise that it sees broken. It
// decides nothing, and is not run unless BASELINE is set; make proof does that for
// the planted bugs.
func TestBaseline(t *testing.T) { each(t, baselines) }

func baselines(t *testing.T) {
	limit, err := time.ParseDuration(os.Getenv("BASELINE"))
	if os.Getenv("BASELINE") == "" {
		t.Skip("left out: BASELINE does not say for how long")
	}
	if err != nil {
		t.Fatal(err)
	}
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []struct {
		name string
		find func(t *testing.T, b *baseline) (contract.Promise, error)
	}{
		{"stress", stress},
		{"random", heldUpAtRandom},
		{"systematic", systematically},
	} {
		t.Run(method.name, func(t *testing.T) {
			begin(t)
			b := &baseline{until: time.Now().Add(limit), random: rand.New(rand.NewPCG(seed, 0))}
			began := time.Now()
			promise, err := method.find(t, b)
			found := contract.Baseline{Method: method.name, Limit: limit, Promise: promise, Tried: b.tried, After: time.Since(began)}
			if missing := (*kernelfeature.MissingError)(nil); errors.As(err, &missing) {
				t.Skip("not run: ", err)
			} else if err != nil {
				t.Fatal(err)
			}
			attribute(t, contract.AttrBaseline, found)
			t.Logf("%+v", found)
		})
	}
}

// baseline is one method at work.
type baseline struct {
	until  time.Time
	random *rand.Rand
	tried  int // races, or schedules
}

func (b *baseline) over() bool { return time.Now().After(b.until) }

// stress lets producers and a consumer race on one device after the other, with
// small rings and all kinds of senders, and asks after each whether it has kept what
// it promises.
func stress(t *testing.T, b *baseline) (found contract.Promise, err error) {
	// Short, so that a race ends soon.
	qdiscs := []netdev.Qdisc{{Kind: netdev.FQCodel, Limit: 64}, {Kind: netdev.Pfifo, Limit: 64}, {Kind: netdev.Noqueue}}
	for ; !b.over() && found == ""; b.tried++ {
		cfg := rigConfig{
			txQueue: []int{1, 2, 16}[b.random.IntN(3)], qdisc: qdiscs[b.random.IntN(len(qdiscs))],
		}
		modes := subject.Modes
		cfg.mode = modes[b.random.IntN(len(modes))].Name
		if flags := optIn(t); len(flags) > 1 {
			cfg.backpressure = flags[b.random.IntN(len(flags))]
		}
		path := []traffic.Path{traffic.PacketSocket, traffic.PacketBypass}[b.random.IntN(2)]
		t.Run("race", func(t *testing.T) {
			r := makeRig(t, cfg)
			r.produce(2, path)
			r.press()
			r.race(1000)
			seen, stall, err := r.settled()
			if err == nil && stall != nil {
				seen.Stalled = stall.Error()
			}
			seen.Noqueue = cfg.qdisc.Kind == netdev.Noqueue
			found, _ = r.contract.Breach(seen)
		})
	}
	return found, nil
}

// baselineChecks are those whose schedules are tried. BASELINE_CONTROL=no leaves out
// what a design itself is known to break its promises by, or that would be found in
// place of a bug that is planted on it.
func baselineChecks(t *testing.T) []check {
	if os.Getenv("BASELINE_CONTROL") == "no" {
		return schedules(t)
	}
	return slices.Concat(schedules(t), requeues(t), controls(t))
}

// explorer makes the test the one that runs schedules.
func explorer(t *testing.T) (*exploration, error) {
	x := &exploration{reached: make(map[string]reached)}
	var err error
	if x.runner, err = schedule.NewRunner(subject); err != nil {
		return nil, err
	}
	t.Cleanup(func() { x.close(t) })
	x.runner.Begins = beginSchedule
	return x, x.runner.Pin()
}

// heldUpAtRandom holds a CPU up at an instruction that is drawn, while an opponent
// does what is drawn, too, in a setting that is.
func heldUpAtRandom(t *testing.T, b *baseline) (contract.Promise, error) {
	x, err := explorer(t)
	if err != nil {
		return "", err
	}
	checks := baselineChecks(t)
	points := make(map[string][]disasm.Point)
	// A new device takes as long as several schedules on one that is there.
	const onOne = 16
	var c check
	for ; !b.over(); b.tried++ {
		if b.tried%onOne == 0 {
			c = checks[b.random.IntN(len(checks))]
		}
		all, known := points[c.target.Root]
		if !known {
			functions, err := schedule.Functions(c.target)
			if missing := (*kernelfeature.MissingError)(nil); errors.As(err, &missing) {
				continue
			}
			if err != nil {
				return "", err
			}
			for _, f := range functions {
				all = append(all, f.Points...)
			}
			points[c.target.Root] = all
		}
		promise, err := x.breaks(t, schedule.Schedule{Point: all[b.random.IntN(len(all))], Opponent: c.opponent, Setting: c.at})
		if promise != "" || err != nil {
			return promise, err
		}
	}
	return "", nil
}

// systematically goes through the schedules as TestSchedules and those after it do.
func systematically(t *testing.T, b *baseline) (contract.Promise, error) {
	x, err := explorer(t)
	if err != nil {
		return "", err
	}
	for _, c := range baselineChecks(t) {
		if b.over() {
			break
		}
		there, err := x.points(t, c.target, c.at)
		if missing := (*kernelfeature.MissingError)(nil); errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return "", err
		}
		if there.stalls {
			return contract.NoStall, nil
		}
		for _, p := range there.points {
			if b.over() {
				break
			}
			b.tried++
			promise, err := x.breaks(t, schedule.Schedule{Point: p, Opponent: c.opponent, Setting: c.at})
			if promise != "" || err != nil {
				return promise, err
			}
		}
	}
	return "", nil
}

// breaks runs a schedule once, and says which promise it breaks, and breaks again
// with more patience.
func (x *exploration) breaks(t *testing.T, s schedule.Schedule) (contract.Promise, error) {
	c := contractOf(t)
	result, err := x.runner.Run(s, stage.Suspicion)
	if cannot := (*breakpoint.CannotHoldError)(nil); errors.As(err, &cannot) {
		return "", nil
	}
	if err != nil || !result.Decisive() {
		return "", err
	}
	promise, _ := schedule.Breach(result, c, s)
	if promise == "" {
		return "", nil
	}
	again, err := x.decide(s, stage.Patience)
	if err != nil || again == nil {
		return "", err
	}
	if same, _ := schedule.Breach(again, c, s); same != promise {
		return "", nil
	}
	return promise, nil
}
