package guest

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/inject/schedule"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// The tests that take long, the longest last: what go test's -timeout leaves no time
// for is then what others decide, too.

// TestRequeueSchedules lets a second producer fill the ring while the first is
// held up on its way there, on a device whose filter trims each packet: one
// that is refused, and queued again, must not be trimmed again.
func TestRequeueSchedules(t *testing.T) { each(t, requeueSchedules) }

func requeueSchedules(t *testing.T) {
	leaveOut(t)
	if subject.Whole {
		t.Skip("left out: the driver has no filter that trims packets")
	}
	x := &exploration{reached: make(map[string]reached)}
	defer x.close(t)
	x.run(t, requeues(t))
}

// requeues are the checks of TestRequeueSchedules.
func requeues(t *testing.T) []check {
	return againstTransmit(t, "second-fills", stage.Setting{Setup: driver.Setup{Ring: 2, Qdisc: netdev.FQCodel}, Trim: 4})
}

// TestFaults lets random faults happen to a device, one after the other, and
// then sees whether it still moves. A sequence that breaks a promise is shrunk
// to the shortest that does. FAULTS says for how long there are new ones, and
// SEED repeats those that were made from it.
func TestFaults(t *testing.T) { each(t, faultSequences) }

func faultSequences(t *testing.T) {
	leaveOut(t)
	if contractOf(t) != contract.OptIn {
		faultsOn(t, false)
		return
	}
	t.Run("off", func(t *testing.T) { faultsOn(t, false) })
	t.Run("on", func(t *testing.T) { faultsOn(t, true) })
}

// TestStoreSchedules has the stores of one side become visible behind later loads, and on
// arm64 loads executed before earlier ones, as a CPU may that no barrier keeps from it,
// while the other side, which was held up before each of its instructions that has to do
// with the first, goes on to its end.
func TestStoreSchedules(t *testing.T) { each(t, storeSchedules) }

func storeSchedules(t *testing.T) {
	leaveOut(t)
	x := &exploration{reached: make(map[string]reached)}
	defer x.close(t)
	twoSided(t, consumers(), func(t *testing.T, p schedule.Pair) {
		x.stores(t, schedule.Store{ConsumerFirst: p.ConsumerFirst, Setup: p.Setup})
	})
}

// TestPairSchedules holds up both sides, the producer at each of its instructions and the
// consumer at each of its own, either of them first: from where they take the ring's lock
// on, and where others can tell (order.Shared), or, with SCHEDULES=all, everywhere.
func TestPairSchedules(t *testing.T) { each(t, pairSchedules) }

func pairSchedules(t *testing.T) {
	leaveOut(t)
	x := &exploration{reached: make(map[string]reached)}
	defer x.close(t)
	twoSided(t, consumers(), x.pairs)
}

// consumers are those that the driver's schedules are tried with.
func consumers() (all []driver.Consumer) {
	for _, tried := range subject.Tried {
		if tried.When <= most() && !slices.Contains(all, tried.Consumer) {
			all = append(all, tried.Consumer)
		}
	}
	return all
}

// twoSided runs a test of both sides in each setting, in a subtest of its name.
func twoSided(t *testing.T, consumers []driver.Consumer, test func(t *testing.T, all schedule.Pair)) {
	pairs := []schedule.Pair{
		// In a ring of one slot the packet that fills it is also the last one to be
		// read, after which nothing wakes the queue any more, and without it the
		// consumer, first, has nothing to read.
		{Setup: driver.Setup{Ring: 1}},
		{Setup: driver.Setup{Ring: 2}},
		{Setup: driver.Setup{Ring: 2}, ConsumerFirst: true},
	}
	if subject.Ring != 0 {
		pairs = []schedule.Pair{{Setup: driver.Setup{Ring: subject.Ring}}}
	}
	for _, consumer := range consumers {
		for _, backpressure := range optIn(t) {
			for _, all := range pairs {
				if all.Ring == 1 && stockLike(t, backpressure) {
					continue
				}
				all.Qdisc, all.Backpressure, all.Consumer = netdev.FQCodel, backpressure, consumer
				name := "producer-first"
				if all.ConsumerFirst {
					name = "consumer-first"
				}
				name += fmt.Sprintf("/ring=%d", all.Ring)
				name += all.Setting().Suffix()
				t.Run(name, func(t *testing.T) { test(t, all) })
			}
		}
	}
}

// TestSchedules holds the driver's functions up at each of their instructions,
// lets the other side read or send, and sees whether the promises still hold.
// Each subtest is one function, opponent, ring and qdisc; one schedule alone
// runs if -run names it, for example
//
//	-run 'Schedules/tun_net_xmit+0x1cb/drain-all/ring=1000/fq_codel'
//
// What the ring does depends on its size, and on whether there is a qdisc. That
// all qdiscs are alike is tried with the rings that cost little.
func TestSchedules(t *testing.T) { each(t, allSchedules) }

func allSchedules(t *testing.T) {
	withStage(t)
	x := &exploration{reached: make(map[string]reached)}
	defer x.close(t)
	if ids := requested(); ids != nil {
		for _, id := range ids {
			t.Run(id, func(t *testing.T) {
				switch {
				case schedule.IsStore(id):
					x.replayStore(t, id)
				case schedule.IsPair(id):
					x.replayPair(t, id)
				default:
					x.replay(t, id)
				}
			})
		}
		return
	}
	x.run(t, schedules(t))
}

// schedules are the checks of TestSchedules.
func schedules(t *testing.T) []check {
	checks := tried(t, false)
	if testing.Short() || subject.Refuses {
		return checks
	}
	// Into a ring that is full, on a txq that was woken too late, while the ring is
	// read.
	return append(checks, againstTransmit(t, "drain-all", stage.Setting{Setup: driver.Setup{Ring: 2, Qdisc: netdev.FQCodel}, Woken: true})...)
}

// tried are the checks in the settings that the driver names, each once.
func tried(t *testing.T, control bool) (checks []check) {
	known := make(map[string]bool)
	for _, tried := range subject.Tried {
		if tried.Control != control || tried.When > most() {
			continue
		}
		for _, c := range settings(t, tried.Consumer, control, tried.Rings, tried.Qdiscs...) {
			if name := c.String(); !known[name] {
				known[name] = true
				checks = append(checks, c)
			}
		}
	}
	return checks
}

// most is how much is tried.
func most() driver.Effort {
	switch {
	case everything():
		return driver.Everything
	case testing.Short():
		return driver.Short
	}
	return driver.Usual
}

// TestControlSchedules does the same with opponents that change the device:
// its queues, its ring, its qdisc and its link. They take a hundred times as
// long, so there are fewer settings, unless SCHEDULES=all.
func TestControlSchedules(t *testing.T) { each(t, controlSchedules) }

func controlSchedules(t *testing.T) {
	leaveOut(t)
	x := &exploration{reached: make(map[string]reached)}
	defer x.close(t)
	x.run(t, controls(t))
}

// controls are the checks of TestControlSchedules.
func controls(t *testing.T) []check { return tried(t, true) }

// everything says whether all schedules are to be run, however long it takes.
func everything() bool { return os.Getenv("SCHEDULES") == "all" }

// leaveOut skips what takes long with -short, and everything but TestSchedules
// if -run names schedules, all of which that one replays.
func leaveOut(t *testing.T) {
	t.Helper()
	withStage(t)
	switch {
	case requested() != nil:
		t.Skip("left out: -run names schedules, which TestSchedules replays")
	case testing.Short():
		t.Skip("left out: -short")
	}
}

// withStage skips what a driver without devices for schedules and faults has not.
func withStage(t *testing.T) {
	t.Helper()
	if subject.Open == nil {
		t.Skipf("left out: %s has no device for schedules and sequences of faults", subject.Name)
	}
}

// check is a target, an opponent and a setting: all schedules at the target's
// instructions.
type check struct {
	target   driver.Target
	opponent *driver.Opponent
	at       stage.Setting
}

// String is the name of the check's subtest: what its schedules' ids have in common,
// but for the instruction.
func (c check) String() string {
	_, name, _ := strings.Cut(schedule.Schedule{Opponent: c.opponent, Setting: c.at}.String(), "/")
	return c.target.Root + "/" + name
}

// settings are the checks of all targets of one kind of consumer, with opponents
// that change the device or such that do not.
func settings(t *testing.T, consumer driver.Consumer, control bool, rings []int, qdiscs ...netdev.Kind) (checks []check) {
	for _, target := range subject.Targets {
		if target.Consumer != consumer {
			continue
		}
		for _, backpressure := range optIn(t) {
			for _, qdisc := range qdiscs {
				for _, ring := range rings {
					if stockLike(t, backpressure) && (ring != 2 || qdisc != netdev.FQCodel) {
						continue
					}
					for _, opponent := range schedule.Opponents(subject) {
						if opponent.Control != control || opponent.Producer != target.Consumes || !opponent.Suits(ring, consumer) || opponent.Partial && subject.Whole {
							continue
						}
						c := check{target, opponent, stage.Setting{Setup: driver.Setup{Ring: ring, Qdisc: qdisc, Backpressure: backpressure, Consumer: consumer}}}
						if !target.Consumes {
							checks = append(checks, c)
							continue
						}
						for _, c.at.Left = range schedule.Lefts(ring) {
							if c.at.Left == 0 && (consumer != subject.Targets[0].Consumer || qdisc != netdev.FQCodel || testing.Short()) && !everything() {
								continue // what matters is the reader
							}
							if control && c.at.Left != ring {
								continue // a txq that is stopped, and woken by what is read
							}
							checks = append(checks, c)
						}
					}
				}
			}
		}
	}
	return checks
}

// againstTransmit are the checks of the transmit against one opponent.
func againstTransmit(t *testing.T, opponent string, at stage.Setting) (checks []check) {
	for _, target := range subject.Targets {
		for _, o := range schedule.Opponents(subject) {
			if target.Consumes || o.Name != opponent {
				continue
			}
			at.Consumer = target.Consumer
			for _, at.Backpressure = range optIn(t) {
				if at.Woken && contractOf(t).Of(at.Backpressure) == contract.Stock {
					continue // stops no txq that could be woken
				}
				checks = append(checks, check{target, o, at})
			}
		}
	}
	return checks
}

// run explores each check in a subtest of its name.
func (x *exploration) run(t *testing.T, checks ...[]check) {
	for _, c := range slices.Concat(checks...) {
		t.Run(c.String(), func(t *testing.T) { x.explore(t, c) })
	}
}

// optIn is what to open devices with: without IFF_BACKPRESSURE, and for the
// opt-in contract with it, too.
func optIn(t *testing.T) []bool {
	if contractOf(t) == contract.OptIn {
		return []bool{false, true}
	}
	return []bool{false}
}

// stockLike says whether a device could opt in and does not: then it is a stock
// one, whose queue has no state to get wrong, and is tried with one ring and one
// qdisc.
func stockLike(t *testing.T, backpressure bool) bool {
	return contractOf(t) == contract.OptIn && !backpressure
}

// requested returns the ids of schedules that -run names; the host quotes what
// is special in them.
func requested() []string {
	pattern := flag.Lookup("test.run").Value.String()
	ids := schedule.IDs(strings.NewReplacer(`\`, "", "^", "", "$", "").Replace(pattern))
	slices.Sort(ids)
	return slices.Compact(ids)
}
