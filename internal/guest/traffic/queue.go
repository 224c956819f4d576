package traffic

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ringproof/ringproof/internal/contract"
)

// Queue is where a consumer in the kernel takes the packets of a device's ring to,
// such as a virtqueue.
type Queue interface {
	// Read takes one packet; the error is EAGAIN if there is none.
	Read(buf []byte) (int, error)
	// Size is how many buffers there are, Free how many the consumer in the kernel
	// does not have; Offer gives it some.
	Size() int
	Free() int
	Offer(buffers int)
	// Call is a descriptor that can be read after a packet has come, if AskForCall
	// has returned true before. A queue that is Polled makes no calls.
	Call() int
	AskForCall() bool
	RefuseCalls()
	Polled() bool
	// Flush waits until what was taken from the ring is there to be read.
	Flush() error
	// Errors is how often the consumer in the kernel has complained.
	Errors() uint64
	Close() error
}

// filled is a source that a consumer in the kernel fills.
type filled struct {
	queue Queue
	*poll
}

func (f filled) begin() error { return nil }
func (f filled) end()         {}

// read offers the buffers of what was read again, many at once.
func (f filled) read(s *spool, _ int, _ *atomic.Int32) error {
	n, err := f.queue.Read(s.free())
	if free := f.queue.Free(); free >= f.queue.Size()/2 {
		f.queue.Offer(free)
	}
	if err == nil {
		s.put(n)
	}
	return err
}

func (f filled) await() error {
	if !f.queue.AskForCall() {
		return nil
	}
	defer f.queue.RefuseCalls()
	if f.queue.Polled() {
		return f.poll.await(1)
	}
	return f.poll.await(-1)
}

func (f filled) kick(int) { f.poll.kick() }

func (f filled) collect(s *spool) {
	for {
		n, err := f.queue.Read(s.free())
		if err != nil {
			return
		}
		s.put(n)
	}
}

func (f filled) flush() error { return f.queue.Flush() }

func (f filled) close() error {
	complaints := f.queue.Errors()
	err := errors.Join(f.poll.close(), f.queue.Close())
	if complaints > 0 {
		err = errors.Join(err, fmt.Errorf("the consumer in the kernel complained %s about its queue", contract.Count(complaints, "time")))
	}
	return err
}
