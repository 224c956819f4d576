package veth

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"

	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"golang.org/x/sys/unix"
)

// softirq is GRO without threads, and plain a far end without NAPI: then packets go into
// no ring, but to the backlog of the CPU that sends them.
const (
	softirq = "softirq"
	plain   = "plain"
)

// modes: what makes the far end use NAPI. Threads that poll run where a hog can hold
// them up; softirqs run where a packet was sent.
var modes = []driver.Mode{
	{Name: string(GRO)},
	{Name: string(XDP)},
	{Name: softirq, Free: true},
	{Name: plain, Free: true},
	{Name: "xdp-drop", Beside: true},
	{Name: "xdp-redirect", Beside: true, TxQueues: 1},
	{Name: "xdp-gro", Beside: true},
	{Name: "fewer-rxqs", Beside: true},
	{Name: "more-rxqs", Beside: true},
	{Name: "namespaces", Beside: true},
}

// way is how the far end polls.
type way struct {
	gro, xdp bool
	// drops: its XDP program drops what source 1 sends. redirects: it sends everything
	// through another pair, at whose far end it arrives.
	drops, redirects bool
	// rxqs is how many receive queues it has; 0 is as many as the near end has txqs.
	rxqs int
	// spare: each end has a queue more than it uses.
	spare bool
	// away: it is in a network namespace of its own.
	away bool
	// threads: NAPI has some, which a hog holds up. Else, if it is deferred, it puts off
	// its polls to be held up, and if not, nothing can hold it up.
	threads, deferred bool
}

// ways are those of devices of Make, and of Open.
var (
	ways = map[string]way{
		string(GRO): {gro: true, threads: true},
		string(XDP): {xdp: true, threads: true},
		softirq:     {gro: true},
		plain:       {},

		"xdp-drop":     {xdp: true, drops: true, threads: true},
		"xdp-redirect": {xdp: true, redirects: true, threads: true},
		"xdp-gro":      {xdp: true, gro: true, threads: true},
		"fewer-rxqs":   {gro: true, threads: true, rxqs: 2},
		"more-rxqs":    {gro: true, threads: true, rxqs: 6},
		"namespaces":   {gro: true, threads: true, away: true},
	}
	waysOfOpen = map[driver.Consumer]way{
		GRO:      {gro: true, deferred: true, spare: true},
		XDP:      {xdp: true, deferred: true, spare: true},
		Threaded: {gro: true, threads: true, spare: true},
	}
)

// poller is NAPI of the far end, as a consumer that can be held up.
type poller interface {
	// Hold says whether it is held up: then the rings fill.
	Hold(on bool) error
	holds() bool
	// find is called when NAPI may be another one.
	find() error
	// Settle waits until it has done what it was woken for.
	Settle() error
	// Pin keeps it on a CPU where it is not held up, and Park on one where it is.
	Pin(cpu int) error
	Park(cpu int) error
	// Hand is how many packets it takes when it is held up, and Inline whether who lets
	// it go on polls.
	Hand() int
	Inline() bool
	close() error
}

// end is a pair with its consumer, and what arrives there.
type end struct {
	*pair
	poller
	// beyond is where an XDP program redirects everything to; nil is nowhere.
	beyond *pair
	// sockets are for what arrives, one for each receive queue.
	sockets []int
}

func openEnd(by way, queues, cpu int, txQueueLen *int, qdisc netdev.Qdisc) (_ *end, err error) {
	e := &end{}
	if runtime.NumCPU() < 2 {
		return nil, cpus(2, "CPU on which what polls can be held up")
	}
	rxqs := cmp.Or(by.rxqs, queues)
	spare := 0
	if by.spare {
		spare = 1
	}
	if e.pair, err = newPair(queues+spare, rxqs+spare, txQueueLen); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if by.spare {
		if err = errors.Join(setChannels(e.near.Name(), queues, queues), setChannels(e.far.Name(), rxqs, rxqs)); err != nil {
			return nil, err
		}
	}
	if by.gro {
		if err = e.setGRO(true); err != nil {
			return nil, err
		}
	}
	if by.xdp {
		does := always(xdpPass)
		if by.drops {
			does = dropFrom(1)
		}
		if by.redirects {
			if e.beyond, err = newPair(1, 1, nil); err != nil {
				return nil, err
			}
			if err = errors.Join(e.beyond.setGRO(true), e.beyond.up()); err != nil {
				return nil, err
			}
			does = redirect(e.beyond.near.Ifindex())
		}
		if err = e.attach(does); err != nil {
			return nil, err
		}
	}
	if err = e.up(); err != nil {
		return nil, err
	}
	if by.threads {
		if err = setThreaded(e.far.Name(), true); err != nil {
			return nil, err
		}
	}
	if by.away {
		if err = errors.Join(e.moveAway(), e.up()); err != nil {
			return nil, err
		}
	}
	arrives := e.far.Ifindex()
	if e.beyond != nil {
		arrives = e.beyond.far.Ifindex()
	}
	for queue := range queues {
		if err = e.there(func() error {
			fd, err := listen(arrives, queue)
			e.sockets = append(e.sockets, fd)
			return err
		}); err != nil {
			return nil, err
		}
	}
	if qdisc.Kind != "" {
		if err = e.near.SetQdisc(qdisc); err != nil {
			return nil, err
		}
	}
	if by.deferred {
		e.poller, err = newDeferred(e.near, e.far)
		return e, err
	}
	threads, err := newThreads(e.far.Name(), cpu)
	if err != nil {
		return nil, err
	}
	e.poller = threads
	if by.threads && len(threads.tids) < rxqs {
		return nil, fmt.Errorf("make a veth pair: %d queues of %s are polled by %d threads", rxqs, e.far.Name(), len(threads.tids))
	}
	return e, nil
}

// cpus says that there must be so many.
func cpus(least int, what string) error {
	return &kernelfeature.MissingError{Option: fmt.Sprintf("CPUs (CPUS=%d)", least), What: what, Err: fmt.Errorf("there are %d", runtime.NumCPU())}
}

func (e *end) Link() *netdev.Device { return e.near }

// Far is 0 if the ledger would not find it.
func (e *end) Far() int {
	if e.away != nil {
		return 0
	}
	return e.far.Ifindex()
}

// Close removes the pair. That packets were lost on the way from a ring to us is an
// error.
func (e *end) Close() error {
	var errs []error
	if e.poller != nil {
		errs = append(errs, e.Hold(false), e.poller.close())
	}
	errs = append(errs, e.pair.close())
	if e.beyond != nil {
		errs = append(errs, e.beyond.close())
	}
	for _, fd := range e.sockets {
		if fd < 0 {
			continue
		}
		errs = append(errs, overrun(fd), unix.Close(fd))
	}
	return errors.Join(errs...)
}

// made is a device of Make.
type made struct{ *end }

func makeDevice(shape driver.Shape) (driver.Made, error) {
	by, ok := ways[shape.Mode]
	if !ok {
		return nil, fmt.Errorf("make a veth pair: there is no mode %q", shape.Mode)
	}
	e, err := openEnd(by, max(shape.TxQueues, 1), runtime.NumCPU()-1, &shape.TxQueueLen, shape.Qdisc)
	if err != nil {
		return nil, err
	}
	return made{e}, nil
}

func (m made) Counters() driver.Counters { return m.near }

func (m made) Queues() []int { return m.sockets }

func (m made) Taker() traffic.Taker { return m.poller }

// Settle: without NAPI a packet waits in the backlog of a CPU.
func (m made) Settle() error { return netdev.SettleBacklog() }

// Revivals returns what can be done to a pair that is stalled, the least first. What is
// queued is lost by it.
func (m made) Revivals() []driver.Revival {
	return []driver.Revival{
		{Name: "the root qdisc replaced by a pfifo", Do: func() error {
			return m.near.SetQdisc(netdev.Qdisc{Kind: netdev.Pfifo, Limit: 1000})
		}},
		{Name: "link down and up", Do: func() error {
			return errors.Join(m.near.SetUp(false), m.near.SetUp(true))
		}},
		{Name: "the far end down and up", Do: func() error {
			return errors.Join(m.setFarUp(false), m.setFarUp(true), m.find())
		}},
	}
}
