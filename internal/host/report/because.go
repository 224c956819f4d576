package report

import (
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// Because says in one paragraph why the promise broke: who was held up where, what the
// opponent did, and what followed, as far as that is known.
func (c *Cause) Because() string {
	f := c.First()
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	victim := f.victim()
	switch {
	case f.Script != "":
		say("These faults were injected one after the other: %s.", strings.ReplaceAll(f.Script, "\n", "; "))
	case f.Delayed != nil && f.Delayed.Early:
		say("The %s is held up at %s%s.", victim, f.From.Name, f.of(0))
		say("Then the %s executes its load at %s%s before the one at %s%s, for no barrier is in between.", opposite(victim), f.Delayed.Load.Name, f.of(2), f.Second.Name, f.of(1))
		say("Between the two the %s goes on to its end. So the first has read what was there before, and the second reads what is new.", victim)
	case f.Delayed != nil:
		say("The %s is held up at %s%s.", victim, f.From.Name, f.of(0))
		say("Then the %s executes the store at %s%s, and behind it the load at %s%s.", opposite(victim), f.Second.Name, f.of(1), f.Delayed.Load.Name, f.of(2))
		say("The store waits in its CPU's buffer, for no full barrier is in between. Meanwhile the %s goes on to its end. Then the store becomes visible, and the %s goes on.", victim, opposite(victim))
	case f.pair():
		say("The %s is held up at %s%s.", victim, f.From.Name, f.of(0))
		say("Then the %s is held up at %s%s.", opposite(victim), f.second(), f.of(1))
		say("The %s goes on to its end, and then the %s.", victim, opposite(victim))
	default:
		say("The %s is held up %s%s.", victim, f.at(), f.of(0))
		if q := f.queueAt(0); q != nil {
			say("At that moment %v.", q)
		}
		does := "Meanwhile " + f.Opponent
		if f.waited() {
			does += ", and has to wait until the " + victim + " goes on"
		}
		say("%s.", does)
		if q := f.queueAt(1); q != nil {
			say("Then %v. The %s goes on.", q, victim)
		} else {
			say("Then the %s goes on.", victim)
		}
	}
	say("%s", f.outcome())
	if k := f.Kept; k != nil {
		say("If the %s is held up at %s instead, the promise is kept.", victim, k.Place.Name)
	}
	return strings.Join(said, " ")
}

// at names the instructions.
func (f *Finding) at() string {
	w := f.windows()[0]
	if f.Points > 1 {
		return fmt.Sprintf("at any of %d neighbouring instructions, %v", f.Points, w)
	}
	return fmt.Sprintf("at %v, %s", w, f.From.Text)
}

// of is where in the source the instructions of a side are, in brackets.
func (f *Finding) of(side int) string {
	w := f.windows()[side]
	for _, s := range f.Source {
		if s.Symbol == w.symbol {
			return fmt.Sprintf(" in %v", s)
		}
	}
	return ""
}

// waited is whether the opponent had to wait for the one that is held up.
func (f *Finding) waited() bool {
	for _, m := range f.TimeLine {
		if strings.HasPrefix(m.What, "has to wait") {
			return true
		}
	}
	return false
}

// queueAt is the txq's state when the CPU is held up (0), or goes on (1); nil if
// that is not known.
func (f *Finding) queueAt(which int) *contract.Queue {
	what := []string{heldUp, goesOn}[which]
	for _, m := range f.TimeLine {
		if m.What == what {
			return m.Queue
		}
	}
	return nil
}

// outcome says what came of it, in a sentence or two.
func (f *Finding) outcome() string {
	tail := uint64(0)
	if f.Books != nil {
		tail = f.Books.DropsFor(contract.FullRing)
	}
	switch {
	case f.Promise == contract.NoTailDrop && tail > 0:
		packets, them := "one", "it"
		if tail > 1 {
			packets, them = fmt.Sprint(tail), "them"
		}
		return fmt.Sprintf("In one of these steps the ring has no room for %s of %s, and the driver drops %s. "+
			"The core passes no packet to a stopped txq (net/sched/sch_generic.c: sch_direct_xmit, net/core/dev.c: __dev_direct_xmit), so the txq was not stopped at that time.",
			packets, contract.Count(f.Books.Offered, "packet"), them)
	case f.Promise == contract.NoStall && f.stopped():
		return fmt.Sprintf("At the end %s. The txq is still stopped: nobody has woken it.", f.Why)
	}
	return fmt.Sprintf("At the end %s.", f.Why)
}

// stopped is whether the txq was stopped when the run ended.
func (f *Finding) stopped() bool {
	if len(f.TimeLine) == 0 {
		return false
	}
	q := f.TimeLine[len(f.TimeLine)-1].Queue
	return q != nil && q.Stopped
}
