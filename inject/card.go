package inject

import (
	"time"

	"github.com/ringproof/ringproof/internal/guest/vhost"
	"golang.org/x/sys/unix"
)

// A stage of a setting with Vhost has a card: a virtqueue of vhost-net.
// While it is plugged in, its worker consumes the ring; else read(2) does. The
// worker takes packets from the ring, up to 64 at once, whether there are
// buffers for them or not; then it waits for a kick, and takes no more.

// cardBuffers are enough for a batch, and for another behind it.
const cardBuffers = 128

func (s *Stage) addCard() (err error) {
	if s.card, err = vhost.Open(s.dev.Queues()[s.queue], vhost.Config{Size: cardBuffers}); err != nil {
		return err
	}
	return s.card.Stop()
}

// plugIn makes the worker the consumer, without buffers. It takes one packet
// in hand, and with that it waits: the next ones stay in the ring.
func (s *Stage) plugIn() error {
	if err := s.card.Start(); err != nil {
		return err
	}
	s.plugged = true
	if err := s.fill(1); err != nil {
		return err
	}
	s.ring.consume()
	s.hand = 1
	return s.card.Settle()
}

// readyCard prepares the worker to consume on that CPU, and returns what makes it
// do so. It finds what is in the ring, and has buffers for it.
func (s *Stage) readyCard(cpu int) (begin func() error, err error) {
	if err := s.card.Pin(cpu); err != nil {
		return nil, err
	}
	// A kick would make it look for a backend, in vain.
	s.card.OfferUnkicked(cardBuffers, vhost.Sound)
	return func() error {
		if err := s.card.Start(); err != nil {
			return err
		}
		return s.card.Settle()
	}, nil
}

// unplug makes read(2) the consumer. The worker must have nothing in hand.
func (s *Stage) unplug() error {
	s.plugged, s.unplugged = false, s.account()
	return s.card.Stop()
}

// receive offers buffers for up to max packets, and says how many there were.
// It waits for the worker in the kernel: a CPU that spins here, besides the one
// that is held up, would leave no other to the worker on a host with two.
func (s *Stage) receive(max int) (n int, err error) {
	for n < max && s.pending() > 0 {
		s.card.Offer(max - n)
		if err := s.card.Settle(); err != nil {
			return n, err
		}
		for n < max {
			ok, err := s.receiver.ReadBy(s.card.Read)
			if err != nil {
				return n, err
			}
			if !ok {
				break
			}
			n++
			if s.hand > 0 {
				s.hand--
			} else {
				s.ring.consume()
			}
		}
		// What it had a buffer for, it would have taken.
		if s.card.Free() < cardBuffers {
			break
		}
	}
	return n, nil
}

// pending is how many packets were sent since the card was unplugged, and have
// not been received; dropped ones, too.
func (s *Stage) pending() uint64 {
	a := s.account().since(s.unplugged)
	return a.born() - a.received
}

// called waits for a call, or for the time.
func (s *Stage) called(wait time.Duration) bool {
	if !s.card.AskForCall() {
		return true
	}
	defer s.card.RefuseCalls()
	return poll(s.card.Call(), wait)
}

// poll waits until there is something to read from fd, or for the time.
func poll(fd int, wait time.Duration) bool {
	timeout := unix.NsecToTimespec(wait.Nanoseconds())
	n, _ := unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, &timeout, nil)
	return n > 0
}
