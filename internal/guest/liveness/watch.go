package liveness

import (
	"errors"
	"fmt"
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

// asleep says whether a ring has packets and its readers sleep.
func (c *check) asleep() (bool, error) {
	if c.cfg.Asleep == nil {
		return false, nil
	}
	return c.cfg.Asleep()
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

// watch looks until done, or until nothing has moved for the patience that the
// configuration grants, and returns the last sight and for how long nothing
// had moved. If a ring has packets then, its readers have slept all the time.
func (c *check) watch(done func(sight) bool) (last sight, still time.Duration, err error) {
	rest := NewRest(c.cfg.Patience + c.cfg.Hold)
	asleep := true
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, rest.LongestPause()) {
		now, err := c.look()
		if err != nil {
			return now, 0, err
		}
		if done(now) {
			return now, 0, nil
		}
		if now != last {
			rest.Moved()
			asleep = true
		}
		last = now
		if asleep && now.readable {
			if asleep, err = c.asleep(); err != nil {
				return now, 0, err
			}
		}
		still, over, err := rest.Still()
		switch {
		case err != nil:
			return now, still, err
		case over && now.readable && !asleep:
			return now, still, &NotReadError{Device: c.cfg.Device.Name(), Waited: still}
		case over:
			return now, still, nil
		}
		time.Sleep(pause)
	}
}
