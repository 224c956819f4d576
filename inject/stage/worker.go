package stage

import "errors"

// While a worker is plugged in it takes packets from the ring; else Read does.

// PlugIn makes the worker the consumer, on that CPU and without buffers. It takes what
// it can have in hand, and with that it waits: the next packets stay in the ring.
func (s *Stage) PlugIn(cpu int) error {
	if err := errors.Join(s.worker.Pin(cpu), s.worker.Start()); err != nil {
		return err
	}
	s.plugged = true
	return s.takeInHand()
}

// Inline says whether the worker takes packets in the thread that lets it.
func (s *Stage) Inline() bool { return s.worker != nil && s.worker.Inline() }

// Halt has a worker that is stopped, and Inline, take what it takes before it takes
// nothing.
func (s *Stage) Halt() error {
	if !s.worker.Inline() {
		return nil
	}
	return s.takeInHand()
}

// takeInHand sends what the worker can have in hand.
func (s *Stage) takeInHand() error {
	s.hand = s.worker.Hand()
	if err := s.Fill(s.hand); err != nil {
		return err
	}
	s.Consumed(s.hand)
	return s.worker.Settle()
}

// Park has a worker wait on that CPU while it is stopped.
func (s *Stage) Park(cpu int) error {
	if s.worker == nil {
		return nil
	}
	return s.worker.Park(cpu)
}

// Ready prepares the worker to consume on that CPU, and returns what makes it do
// so. It finds what is in the ring, and has buffers for it.
func (s *Stage) Ready(cpu int) (begin func() error, err error) {
	if err := s.worker.Pin(cpu); err != nil {
		return nil, err
	}
	// If it were woken it would look for packets, in vain.
	s.worker.OfferUnkicked(s.worker.Size())
	return func() error {
		if err := s.worker.Start(); err != nil {
			return err
		}
		return s.worker.Settle()
	}, nil
}

// Plug says whether the worker is the consumer.
func (s *Stage) Plug(worker bool) { s.plugged = worker }

// Plugged is whether it is.
func (s *Stage) Plugged() bool { return s.plugged }

// Unplug makes Read the consumer. The worker must have nothing in hand.
func (s *Stage) Unplug() error {
	s.plugged, s.unplugged = false, s.account()
	return s.worker.Stop()
}

// Collect takes what the worker, which is stopped, has put into buffers.
func (s *Stage) Collect() error {
	for {
		if ok, err := s.receiver.ReadBy(s.worker.Read); !ok || err != nil {
			return err
		}
	}
}

// receive offers buffers for up to max packets, and says how many there were.
// It waits for the worker in the kernel: a CPU that spins here, besides the one
// that is held up, would leave no other to the worker on a host with two.
func (s *Stage) receive(max int) (n int, err error) {
	for n < max && s.pending() > 0 {
		s.worker.Offer(max - n)
		if err := s.worker.Settle(); err != nil {
			return n, err
		}
		for n < max {
			ok, err := s.receiver.ReadBy(s.worker.Read)
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
		if s.worker.Free() < s.worker.Size() {
			break
		}
	}
	return n, nil
}

// pending is how many packets were sent since the worker was unplugged, and have
// not been received; dropped ones, too.
func (s *Stage) pending() uint64 {
	a := s.account().since(s.unplugged)
	return a.allocated() - a.received
}
