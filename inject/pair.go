package inject

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// Pair is an interleaving with both sides held up: the first does what it does
// until it is held up, then the second until it is held up; the first goes on to
// its end, and then the second. (Were the second to end before the first, that
// it was held up would make no difference: that is a Schedule.)
//
// The producer sends the packet that fills the ring, in which it is held up, and
// two more: one that takes the room that the consumer may have made, and one
// that must wait in the qdisc then. The consumer reads all that is there.
type Pair struct {
	First, Second Point
	// ConsumerFirst: the first is the consumer. Else the producer is.
	ConsumerFirst bool
	Ring          int // tx_queue_len
	Qdisc         netdev.Kind
	// Backpressure and Vhost are as in Schedule.
	Backpressure, Vhost bool
}

// Setting is where the pair is tried.
func (p Pair) Setting() Setting {
	return Setting{Ring: p.Ring, Qdisc: p.Qdisc, Left: 1, Backpressure: p.Backpressure, Vhost: p.Vhost}
}

// more is how many packets the producer of a pair sends after that in which it
// is held up.
const more = 2

// spun is how long the second of a pair is held up at most. It waits for the
// first to end, which cannot if it needs a lock that the second holds.
const spun = 20 * time.Millisecond

// String is the pair's id: "tun_net_xmit+0x1cb&tun_do_read+0x52/ring=2/fq_codel",
// or with "/backpressure" and "/vhost" behind it.
func (p Pair) String() string {
	id := fmt.Sprintf("%v&%v/ring=%d/%s", p.First, p.Second, p.Ring, p.Qdisc)
	if p.Backpressure {
		id += "/backpressure"
	}
	if p.Vhost {
		id += "/vhost"
	}
	return id
}

var pairPattern = regexp.MustCompile(`^([\w.]+\+0x[0-9a-f]+)&([\w.]+\+0x[0-9a-f]+)/ring=(\d+)/(\w+)(/backpressure)?(/vhost)?$`)

// IsPair says whether an id is that of a pair.
func IsPair(id string) bool { return pairPattern.MatchString(id) }

// ParsePair returns the pair of that id; the instructions must be the running
// kernel's.
func ParsePair(id string) (Pair, error) {
	var p Pair
	m := pairPattern.FindStringSubmatch(id)
	if m == nil {
		return p, fmt.Errorf("%q is no pair of held-up instructions: one looks like tun_net_xmit+0x1cb&tun_do_read+0x52/ring=2/fq_codel", id)
	}
	p.Qdisc = netdev.Kind(m[4])
	p.Ring, _ = strconv.Atoi(m[3])
	p.Backpressure, p.Vhost = m[5] != "", m[6] != ""
	var errs [2]error
	p.First, errs[0] = findPoint(m[1])
	p.Second, errs[1] = findPoint(m[2])
	if err := errors.Join(errs[:]...); err != nil {
		return p, fmt.Errorf("schedule %s: %w", id, err)
	}
	for _, target := range Targets() {
		if target.Vhost != p.Vhost {
			continue
		}
		functions, err := target.Functions()
		if err != nil {
			return p, fmt.Errorf("schedule %s: %w", id, err)
		}
		for _, f := range functions {
			p.ConsumerFirst = p.ConsumerFirst || target.Consumer && slices.Contains(f.Points, p.First)
		}
	}
	return p, nil
}

// RunPair runs a pair once, as Run runs a schedule. It is reached if both were
// held up at once.
func (r *Runner) RunPair(p Pair, patience time.Duration) (*Result, error) {
	if r.Begins != nil {
		r.Begins(p.String())
	}
	result, err := r.pair(p, patience)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("schedule %v: %w", p, err), r.closeStage())
	}
	return result, r.tidy(result)
}

func (r *Runner) pair(p Pair, patience time.Duration) (*Result, error) {
	if err := r.on(p.Setting()); err != nil {
		return nil, err
	}
	s := r.stage
	before := s.account()
	if err := s.fill(s.ring.room() - 1); err != nil {
		return nil, err
	}
	send := func() error {
		for range 1 + more {
			if _, err := s.victim.Send(); err != nil {
				return err
			}
		}
		return nil
	}
	read := func() error { _, err := s.drain(all); return err }
	firstThread := r.victim
	if p.Vhost {
		// The worker runs on the CPU of its side, alone.
		cpu := controllerCPU
		if p.ConsumerFirst {
			cpu, firstThread = victimCPU, r.starter
		}
		var err error
		if read, err = s.readyCard(cpu); err != nil {
			return nil, err
		}
	}
	first, second := send, read
	who := [2]string{producer, consumer}
	if p.ConsumerFirst {
		first, second = read, send
		who = [2]string{consumer, producer}
	}
	result := newResult()
	// The second is this thread: three CPUs that spin are one too many for
	// two of a host without KVM.
	if err := r.second.Set(p.Second); err != nil {
		return nil, err
	}
	v := side{thread: firstThread, trap: r.trap, vhost: p.Vhost && p.ConsumerFirst, limit: limit(p.Ring), do: func() error {
		err := first()
		r.second.Release()
		return err
	}}
	if err := v.set(p.First); err != nil {
		return nil, err
	}
	result.note(who[0], "begins")
	held, err := v.begin()
	if held {
		result.note(who[0], "is held up")
		result.note(who[1], "begins, and is held up until the other is done")
		r.second.Arm(spun, r.trap)
		err = second()
		result.note(who[1], "is done")
		// If the first needs a lock that the second holds, it cannot end
		// before the second goes on, which is as lawful an order.
		result.Waited = r.second.Expired()
		exhausted := r.second.Exhausted()
		result.Locked = r.second.Waits()
		result.Reached = r.second.Disarm() && !result.Locked
		result.Late = r.trap.Expired() || r.trap.Exhausted() || exhausted
		r.trap.Release()
	}
	v.wait()
	r.trap.Disarm()
	if err := errors.Join(v.err, err); err != nil {
		return nil, err
	}
	s.plugged = p.Vhost && (held || p.ConsumerFirst)
	if err := s.judge(before, result, patience); err != nil || !p.Vhost {
		return result, err
	}
	return result, s.unplug()
}

// side is one that is held up, on a thread of its own.
type side struct {
	thread *thread
	trap   *Trap
	do     func() error
	limit  time.Duration // for which it is held up at most
	// vhost: it is vhost-net's worker that is held up, and thread only starts it.
	// No CPU is to spin for both: see receive.
	vhost bool
	// wake is what wakes it if it sleeps before it is held up; nil if it never
	// does.
	wake func() error
	err  error
}

// set moves the side's trap, on its own CPU.
func (s *side) set(p Point) error {
	var err error
	s.thread.call(func() { err = s.trap.Set(p) })
	return err
}

// begin lets the side do what it does, and says whether it is held up.
func (s *side) begin() (bool, error) {
	s.trap.Arm(s.limit, nil)
	s.thread.start(func() { s.err = s.do() })
	if s.wake != nil && s.sleeps() {
		if err := s.wake(); err != nil {
			return false, err
		}
	}
	s.await(func() bool { return s.trap.state() != armed || s.thread.idle() })
	return s.trap.state() != armed, nil
}

// await returns when the condition holds.
func (s *side) await(cond func() bool) {
	for s.vhost && !cond() {
		nap()
	}
	await(cond)
}

// wait returns when the side is done.
func (s *side) wait() { s.await(s.thread.idle) }

// sleeps returns true when the side sleeps, and false when it is held up or done.
func (s *side) sleeps() bool {
	for s.trap.state() != paused && !s.thread.idle() {
		if s.thread.sleeps() {
			return true
		}
		nap()
	}
	return false
}
