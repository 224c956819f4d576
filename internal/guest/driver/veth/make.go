package veth

import (
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
}

// end is a pair with its consumer, and what arrives there.
type end struct {
	*pair
	*napi
	// sockets are for what arrives, one for each receive queue.
	sockets []int
}

func openEnd(mode string, queues, cpu int, txQueueLen *int, qdisc netdev.Qdisc) (_ *end, err error) {
	e := &end{}
	if runtime.NumCPU() < 2 {
		return nil, cpus(2, "CPU on which what polls can be held up")
	}
	if e.pair, err = newPair(queues, txQueueLen); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	threads := queues
	switch mode {
	case string(GRO):
		err = e.setGRO(true)
	case string(XDP):
		err = e.attach(xdpPass)
	case softirq:
		threads, err = 0, e.setGRO(true)
	case plain:
		threads = 0
	default:
		err = fmt.Errorf("make a veth pair: there is no mode %q", mode)
	}
	if err != nil {
		return nil, err
	}
	for queue := range queues {
		fd, err := listen(e.far.Ifindex(), queue)
		if err != nil {
			return nil, err
		}
		e.sockets = append(e.sockets, fd)
	}
	if err = e.up(); err != nil {
		return nil, err
	}
	if threads > 0 {
		if err = setThreaded(e.far.Name(), true); err != nil {
			return nil, err
		}
	}
	if qdisc.Kind != "" {
		if err = e.near.SetQdisc(qdisc); err != nil {
			return nil, err
		}
	}
	if e.napi, err = newNAPI(e.far.Name(), cpu); err != nil {
		return nil, err
	}
	if len(e.threads) < threads {
		return nil, fmt.Errorf("make a veth pair: %d queues of %s are polled by %d threads", queues, e.far.Name(), len(e.threads))
	}
	return e, nil
}

// cpus says that there must be so many.
func cpus(least int, what string) error {
	return &kernelfeature.MissingError{Option: fmt.Sprintf("CPUs (CPUS=%d)", least), What: what, Err: fmt.Errorf("there are %d", runtime.NumCPU())}
}

func (e *end) Link() *netdev.Device { return e.near }

func (e *end) Far() int { return e.far.Ifindex() }

// Close removes the pair. That packets were lost on the way from a ring to us is an
// error.
func (e *end) Close() error {
	var errs []error
	if e.napi != nil {
		errs = append(errs, e.Hold(false))
		e.napi.close()
	}
	errs = append(errs, e.pair.close())
	for _, fd := range e.sockets {
		errs = append(errs, overrun(fd), unix.Close(fd))
	}
	return errors.Join(errs...)
}

// made is a device of Make.
type made struct{ *end }

func makeDevice(shape driver.Shape) (driver.Made, error) {
	e, err := openEnd(shape.Mode, max(shape.TxQueues, 1), runtime.NumCPU()-1, &shape.TxQueueLen, shape.Qdisc)
	if err != nil {
		return nil, err
	}
	return made{e}, nil
}

func (m made) Queues() []int { return m.sockets }

func (m made) Taker() traffic.Taker { return m.napi }

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
			return errors.Join(m.far.SetUp(false), m.far.SetUp(true), m.find())
		}},
	}
}
