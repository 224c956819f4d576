package traffic

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// reader reads one queue from a thread of its own.
type reader struct {
	consumer *Consumer
	source   source
	sink     sink
	spool    spool

	tid    atomic.Int32
	parked atomic.Bool // waits at the gate
	ended  atomic.Bool
	err    error // why it ended unasked; written before ended
}

// source is where a reader gets packets from.
type source interface {
	// begin is called on the reader's thread before anything else, and end last.
	begin() error
	end()
	// read puts what there is into the spool, until it has put in most packets or
	// want is no longer reading. It returns EAGAIN if there is nothing, and EINTR
	// to be called again.
	read(s *spool, most int, want *atomic.Int32) error
	// await waits until there is something to read, or for kick.
	await() error
	// kick gets the reader, whose thread is tid, out of the system call that it
	// waits in.
	kick(tid int)
	// collect reads what has arrived while its reader does not.
	collect(s *spool)
	// flush waits until all that was taken from the ring has arrived.
	flush() error
	// close is called when the reader has ended, or never begun.
	close() error
}

func (r *reader) start(cpu *int) error {
	ready := make(chan error, 1)
	err := onThread(cpu, func() {
		err := r.source.begin()
		if ready <- err; err == nil {
			r.run()
		}
	})
	if err == nil {
		err = <-ready
	}
	if err != nil {
		return errors.Join(err, r.source.close())
	}
	return nil
}

// run reads until it is asked to stop or the queue cannot be read.
func (r *reader) run() {
	r.tid.Store(int32(unix.Gettid()))
	defer r.ended.Store(true)
	defer r.source.end()
	c := r.consumer
	pace := pacer{interval: c.cfg.Interval}
	most := spoolPackets
	if pace.interval != 0 {
		most = 1
	}
	for {
		if c.want.Load() != reading {
			if r.park() == stopping {
				return
			}
		}
		switch err := r.source.read(&r.spool, most, &c.want); err {
		case nil:
			if pace.interval != 0 {
				pace.wait(&c.want)
			}
		case unix.EINTR:
		case unix.EAGAIN:
			r.spool.check()
			if err := r.source.await(); err != nil {
				r.err = err
				return
			}
		default:
			// EFAULT and EBADFD: the device was removed.
			r.err = fmt.Errorf("read: %w", err)
			return
		}
	}
}

// park waits at the gate for as long as the consumer is paused.
func (r *reader) park() int32 {
	c := r.consumer
	c.gate.L.Lock()
	defer c.gate.L.Unlock()
	for c.want.Load() == pausing {
		r.parked.Store(true)
		c.gate.Wait()
	}
	r.parked.Store(false)
	return c.want.Load()
}

// heeds says whether the reader does what is wanted, which is not to read.
func (r *reader) heeds(want int32) bool {
	return r.ended.Load() || want == pausing && r.parked.Load()
}

// kick gets the reader out of the system call that it waits in.
func (r *reader) kick() {
	if tid := r.tid.Load(); tid != 0 {
		r.source.kick(int(tid))
	}
}

// sleeps says whether the reader's thread sleeps, by its state (proc(5): stat). One that
// has ended does not.
func (r *reader) sleeps() (bool, error) {
	if r.ended.Load() {
		return false, nil
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", r.tid.Load()))
	if err != nil {
		return false, err
	}
	// The name of the program may contain anything.
	_, state, found := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	return found && strings.HasPrefix(state, "S"), nil
}

// pacer keeps a slow consumer slow.
type pacer struct {
	interval time.Duration
	next     time.Time
}

// wait waits until the next packet may be read, or want is no longer reading.
func (p *pacer) wait(want *atomic.Int32) {
	now := time.Now()
	if p.next = p.next.Add(p.interval); p.next.Before(now) {
		p.next = now
	}
	for want.Load() == reading {
		left := time.Until(p.next)
		if left <= 0 {
			return
		}
		time.Sleep(min(left, 10*time.Millisecond))
	}
}
