package inject

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/ringproof/ringproof/internal/guest/tuntap"
)

// Pair is an interleaving with both sides held up: the producer, which sends
// the packet that fills the ring, at one instruction; then the consumer, which
// reads all that is there, at another; then one goes on to its end, and the
// other after it.
type Pair struct {
	Producer, Consumer Point
	Ring               int // tx_queue_len
	Qdisc              tuntap.Kind
	// ConsumerFirst: it goes on first. Else the producer does.
	ConsumerFirst bool
}

// String is the pair's id:
// "tun_net_xmit+0x1cb&tun_do_read+0x52/ring=2/fq_codel/first=producer".
func (p Pair) String() string {
	return fmt.Sprintf("%v&%v/ring=%d/%s/first=%s", p.Producer, p.Consumer, p.Ring, p.Qdisc, p.First())
}

// First says who goes on first.
func (p Pair) First() string {
	if p.ConsumerFirst {
		return "consumer"
	}
	return "producer"
}

var pairPattern = regexp.MustCompile(`^([\w.]+\+0x[0-9a-f]+)&([\w.]+\+0x[0-9a-f]+)/ring=(\d+)/(\w+)/first=(producer|consumer)$`)

// IsPair says whether an id is that of a pair.
func IsPair(id string) bool { return pairPattern.MatchString(id) }

// ParsePair returns the pair of that id; the instructions must be the running
// kernel's.
func ParsePair(id string) (Pair, error) {
	var p Pair
	m := pairPattern.FindStringSubmatch(id)
	if m == nil {
		return p, fmt.Errorf("%q is no pair of held-up instructions: one looks like tun_net_xmit+0x1cb&tun_do_read+0x52/ring=2/fq_codel/first=producer", id)
	}
	p.Qdisc = tuntap.Kind(m[4])
	p.Ring, _ = strconv.Atoi(m[3])
	p.ConsumerFirst = m[5] == "consumer"
	var errs [2]error
	p.Producer, errs[0] = findPoint(m[1])
	p.Consumer, errs[1] = findPoint(m[2])
	if err := errors.Join(errs[:]...); err != nil {
		return p, fmt.Errorf("schedule %s: %w", id, err)
	}
	return p, nil
}

// RunPair runs a pair once, as Run runs a schedule. It is reached if both were
// held up at once.
func (r *Runner) RunPair(p Pair, patience time.Duration) (*Result, error) {
	result, err := r.pair(p, patience)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("schedule %v: %w", p, err), r.closeStage())
	}
	return result, r.tidy(result)
}

func (r *Runner) pair(p Pair, patience time.Duration) (*Result, error) {
	if err := r.on(Schedule{Ring: p.Ring, Qdisc: p.Qdisc}); err != nil {
		return nil, err
	}
	s := r.stage
	before := s.account()
	if err := s.fill(s.ring.room() - 1); err != nil {
		return nil, err
	}
	producer := side{r.victim, r.trap, func() error { _, err := s.victim.Send(); return err }, nil}
	consumer := side{r.operator, r.second, func() error { _, err := s.drain(all); return err }, nil}
	result := &Result{}
	if err := producer.set(p.Producer); err != nil {
		return nil, err
	}
	if err := consumer.set(p.Consumer); err != nil {
		return nil, err
	}
	if producer.begin() {
		first, second := &producer, &consumer
		if p.ConsumerFirst {
			first, second = second, first
		}
		if consumer.begin() {
			result.Reached = true
			result.Late = !first.trap.Release()
			since := time.Now()
			// It may need a lock that the other holds.
			await(func() bool { return first.thread.idle() || time.Since(since) > spun })
			result.Waited = !first.thread.idle()
			result.Late = !second.trap.Release() || result.Late
		}
	}
	for _, s := range []*side{&producer, &consumer} {
		s.trap.Disarm()
	}
	producer.thread.wait()
	consumer.thread.wait()
	if err := errors.Join(producer.err, consumer.err); err != nil {
		return nil, err
	}
	return result, s.judge(before, result, patience)
}

// side is one of the two that are held up.
type side struct {
	thread *thread
	trap   *Trap
	do     func() error
	err    error
}

// set moves the side's trap, on its own CPU.
func (s *side) set(p Point) error {
	var err error
	s.thread.call(func() { err = s.trap.Set(p) })
	return err
}

// begin lets the side do what it does, and says whether it is held up.
func (s *side) begin() bool {
	s.trap.Arm(hold)
	s.thread.start(func() { s.err = s.do() })
	await(func() bool { return s.trap.state() != armed || s.thread.idle() })
	return s.trap.state() != armed
}
