package liveness

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/ringproof/ringproof/internal/guest/netdev"
	"golang.org/x/sys/unix"
)

// sight is what one look at the device shows.
type sight struct {
	received uint64
	qlen     uint32 // packets in the qdiscs
	dequeued uint32 // packets that left them so far
	readable bool   // a ring has packets
}

func (c *check) look() (sight, error) {
	qdiscs, err := c.cfg.Device.QdiscStats()
	if err != nil {
		return sight{}, err
	}
	sum := netdev.SumQdiscs(qdiscs)
	s := sight{received: c.cfg.Received(), qlen: sum.Qlen, dequeued: sum.Packets}
	s.readable, err = readable(c.cfg.Queues)
	return s, err
}

// readable says whether poll(2) reports anything to read.
func readable(queues []int) (bool, error) {
	fds := make([]unix.PollFd, len(queues))
	for i, fd := range queues {
		fds[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	if _, err := unix.Poll(fds, 0); err != nil && !errors.Is(err, unix.EINTR) {
		return false, fmt.Errorf("poll the queues: %w", err)
	}
	for _, fd := range fds {
		if fd.Revents&unix.POLLIN != 0 {
			return true, nil
		}
	}
	return false, nil
}

// minVisits is how often every CPU must have run before nothing is said to
// move.
const minVisits = 10

// watch looks until done, or until nothing has moved for the patience that the
// configuration grants, and returns the last sight and for how long nothing
// had moved.
//
// Time alone would cry wolf when the host gives a virtual CPU none: its
// softirqs and the consumers on it stand still while the clock goes on.
// So when nothing has moved for a while, this thread runs on each CPU in turn
// between two looks. Each of them then has run, and has had the occasion to
// handle what was pending there.
func (c *check) watch(done func(sight) bool) (last sight, still time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	limit := c.cfg.Patience + c.cfg.Hold
	var moved time.Time
	visits := 0
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 50*time.Millisecond) {
		now, err := c.look()
		if err != nil {
			return now, 0, err
		}
		if done(now) {
			return now, 0, nil
		}
		if moved.IsZero() || now != last {
			moved, visits = time.Now(), 0
		}
		last = now
		still = time.Since(moved)
		if still >= limit && visits >= minVisits {
			if now.readable {
				return now, still, &NotReadError{Device: c.cfg.Device.Name(), Waited: still}
			}
			return now, still, nil
		}
		if still >= limit/4 {
			if err := visitCPUs(); err != nil {
				return now, still, err
			}
			visits++
		}
		time.Sleep(pause)
	}
}

// visitCPUs runs the calling thread on each CPU that is online and that it is
// allowed on.
func visitCPUs() error {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("look up the CPUs: %w", err)
	}
	left := allowed.Count()
	for cpu := 0; left > 0; cpu++ {
		if !allowed.IsSet(cpu) {
			continue
		}
		left--
		var one unix.CPUSet
		one.Set(cpu)
		// EINVAL: offline.
		if err := unix.SchedSetaffinity(0, &one); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("run on CPU %d: %w", cpu, err)
		}
	}
	if err := unix.SchedSetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("run on any CPU: %w", err)
	}
	return nil
}
