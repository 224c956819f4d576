// Package stage has the device on which schedules and sequences of faults run: one
// txq, its senders, its consumer, and its ledger. It does not depend on a driver.
package stage

import (
	"errors"
	"fmt"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/ledger"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
)

// Setting is what a stage is made for.
type Setting struct {
	driver.Setup
	// Left, with a consumer held up, is how many packets the ring holds when
	// it reads: a full ring was read down to that before. With none it reads
	// as one that sleeps until there is a packet.
	Left int
	// Woken, with a producer held up: the ring is full before it sends, and
	// its txq was woken for all that, as a consumer does that is slow to wake
	// it and is overtaken.
	Woken bool
	// Trim is how many bytes the device's filter cuts from each packet; 0 is no
	// filter.
	Trim int
}

// Suffix is the end of the ids of what runs in the setting: "/woken" if the ring
// is full, "/trim=4" if the device has a filter, "/backpressure" if it has
// IFF_BACKPRESSURE, and the consumer's name, "/vhost", if it is not the usual one.
func (at Setting) Suffix() string {
	var s string
	if at.Woken {
		s += "/woken"
	}
	if at.Trim > 0 {
		s += fmt.Sprintf("/trim=%d", at.Trim)
	}
	if at.Backpressure {
		s += "/backpressure"
	}
	if at.Consumer != "" {
		s += "/" + string(at.Consumer)
	}
	return s
}

// device is what of the setting makes a device.
func (at Setting) device() Setting { return Setting{Setup: at.Setup, Trim: at.Trim} }

// Stage has a device and all that is around it.
type Stage struct {
	at       Setting
	driver   *driver.Driver
	dev      driver.Device
	link     *traffic.Link
	ledger   *ledger.Ledger
	receiver *traffic.Receiver
	ring     *ring
	// followed: since the mark the ring was renewed, and its positions are known again.
	followed bool
	// worker is nil unless the consumer is one; while it is plugged it takes
	// packets, else Read does. hand is how many it had in hand when it was
	// plugged in and that have not been received.
	worker  driver.Worker
	plugged bool
	hand    int
	// unplugged is how the counts stood when it last was.
	unplugged account
	// Victim is the producer that is held up; filler, second and fresh are
	// the controller's. second goes past the qdisc.
	Victim                *traffic.Sender
	filler, second, fresh *traffic.Sender
	// drops is what the ledger had seen when it was last asked, and quiet what
	// it has found to be freed quietly.
	drops, quiet map[string]uint64
	// state is where the kernel has the state of the txq; 0 is not known yet.
	state uint64
	// changed is the qdisc that the device has in place of the first; "" is none.
	changed netdev.Kind
}

// Sources of a stage's packets.
const (
	victimSource = iota + 1
	fillerSource
	secondSource
	freshSource
)

// packetBytes is the length of all packets of a stage, from the IP header on.
const packetBytes = 64

// New makes the device of a setting; Left and Woken do not matter to it. What the
// kernel lacks is a *kernelfeature.MissingError. Close it when done.
func New(drv *driver.Driver, at Setting) (_ *Stage, err error) {
	s := &Stage{at: at.device(), driver: drv, ring: newRing(at.Ring)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.dev, err = drv.Open(at.Setup); err != nil {
		return nil, err
	}
	s.worker = s.dev.Worker()
	name := s.dev.Link().Name()
	if s.link, err = traffic.LinkByName(name); err != nil {
		return nil, err
	}
	if s.ledger, err = ledger.Open(s.dev.Link(), drv, s.dev.Far()); err != nil {
		return nil, err
	}
	length := 0
	if at.Trim > 0 {
		const ethernet = 14
		length = ethernet + packetBytes - at.Trim
		if err = s.dev.Trim(at.Trim); err != nil {
			return nil, err
		}
	}
	s.receiver = traffic.NewReceiver(s.link, s.dev.Read, s.dev.HeaderBytes(), length)
	for _, sender := range []struct {
		to     **traffic.Sender
		source uint8
		path   traffic.Path
	}{
		{&s.Victim, victimSource, traffic.PacketSocket},
		{&s.filler, fillerSource, traffic.PacketSocket},
		{&s.second, secondSource, traffic.PacketBypass},
		{&s.fresh, freshSource, traffic.PacketSocket},
	} {
		cfg := traffic.SenderConfig{Path: sender.path, Source: sender.source, MinBytes: packetBytes, MaxBytes: packetBytes, SendBuffer: 64 << 20}
		if *sender.to, err = traffic.NewSender(s.link, cfg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Stage) senders() []*traffic.Sender {
	return []*traffic.Sender{s.Victim, s.filler, s.second, s.fresh}
}

// Close removes the device.
func (s *Stage) Close() error {
	var errs []error
	for _, sender := range s.senders() {
		if sender != nil {
			errs = append(errs, sender.Close())
		}
	}
	if s.ledger != nil {
		errs = append(errs, s.ledger.Close())
	}
	if s.dev != nil {
		errs = append(errs, s.dev.Close())
	}
	return errors.Join(errs...)
}

// For says whether the stage is as the setting asks.
func (s *Stage) For(at Setting) bool { return s.at == at.device() }

// Device is the device under test.
func (s *Stage) Device() driver.Device { return s.dev }

// Qdisc is the kind of the device's root qdisc.
func (s *Stage) Qdisc() netdev.Kind {
	if s.changed != "" {
		return s.changed
	}
	return s.at.Qdisc
}

// Fill sends so many packets through the qdisc.
func (s *Stage) Fill(packets int) error {
	outcome, err := s.filler.SendAll(packets)
	if outcome == traffic.Full {
		return fmt.Errorf("fill the ring of %s: the send buffer is full", s.link.Name)
	}
	return err
}

// Bypass sends so many packets past the qdisc.
func (s *Stage) Bypass(packets int) error {
	for range packets {
		if _, err := s.second.Send(); err != nil {
			return err
		}
	}
	return nil
}

// Offer sends so many packets, past the qdisc or through it, to a device that may
// take none: that is counted, and no error.
func (s *Stage) Offer(packets int, bypass bool) {
	sender := s.filler
	if bypass {
		sender = s.second
	}
	for range packets {
		sender.Send()
	}
}

// Read takes one packet on this thread, if there is one.
func (s *Stage) Read() (bool, error) {
	ok, err := s.receiver.Read()
	if ok {
		s.ring.consume()
	}
	return ok, err
}

// Drain takes up to max packets, and says how many there were.
func (s *Stage) Drain(max int) (int, error) {
	if s.plugged {
		return s.receive(max)
	}
	for n := range max {
		if ok, err := s.Read(); !ok || err != nil {
			return n, err
		}
	}
	return max, nil
}

// Readable waits until there is something to take, or for the time.
func (s *Stage) Readable(wait time.Duration) bool {
	if s.plugged {
		return s.worker.Await(wait)
	}
	return s.dev.Readable(wait)
}

// Room is how many packets a device takes whose ring is empty until its txq is stopped.
func (s *Stage) Room() int {
	if s.driver.Refuses {
		return s.ring.room() + 1
	}
	return s.ring.room()
}

// Consumed says that packets were taken from the ring otherwise.
func (s *Stage) Consumed(packets int) {
	for range packets {
		s.ring.consume()
	}
}

// Renewed says that the ring is another one, from its start on.
func (s *Stage) Renewed() { s.ring = newRing(s.at.Ring) }

// RenewedEmpty says so when everything that had been in the old one was collected: what
// comes from now on is followed.
func (s *Stage) RenewedEmpty() {
	s.Renewed()
	s.followed, s.hand = true, 0
}

// Realign brings the ring's positions back to its start, after something has
// moved them that the stage could not follow. The ring must be empty.
func (s *Stage) Realign() error {
	if s.ring.batch == 1 {
		return nil // then all of an empty ring is free, wherever they are
	}
	if s.followed {
		return nil
	}
	return s.Resize()
}

// Align moves on to the ring's start: which slots are used decides which way a driver
// goes. The ring must be empty, and no worker plugged in. One that is the only consumer
// takes its packets on that CPU.
func (s *Stage) Align(cpu int) error {
	for s.ring.head != 0 {
		packets := min(s.ring.size-s.ring.head, s.Room()-1)
		if err := s.Fill(packets); err != nil {
			return err
		}
		if s.driver.Whole {
			begin, err := s.Ready(cpu)
			if err == nil {
				s.plugged = true
				err = begin()
			}
			if err != nil {
				return err
			}
		}
		if n, err := s.Drain(packets); err != nil || n == 0 {
			return errors.Join(fmt.Errorf("move on to the start of the ring: %d of %d packets were read", n, packets), err)
		}
		if s.driver.Whole {
			if err := s.Unplug(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Resize changes the ring's size and back, which wakes the txq of most designs.
// What is in the ring stays, from its start on.
func (s *Stage) Resize() error {
	s.ledger.Reconfigured()
	if err := s.dev.Resize(); err != nil {
		return err
	}
	s.Renewed()
	return nil
}

// Reconfigured says that the device is about to be changed.
func (s *Stage) Reconfigured() { s.ledger.Reconfigured() }

// SetQdisc replaces the root qdisc.
func (s *Stage) SetQdisc(q netdev.Qdisc) error {
	err := s.dev.Link().SetQdisc(q)
	if err == nil {
		s.changed = q.Kind
	}
	return err
}

// Reopen gives the senders new sockets, which a device needs that was in another
// network namespace.
func (s *Stage) Reopen() error {
	for _, sender := range s.senders() {
		if err := sender.Reopen(); err != nil {
			return err
		}
	}
	return nil
}

// LostQdisc says that the device has the qdisc that such devices begin with.
func (s *Stage) LostQdisc() { s.changed = s.driver.DefaultQdisc }

// Audit compares what the counters of the device and its qdisc say of everything
// that the stage has seen with what was freed. It returns what it does not know
// which counter counts.
func (s *Stage) Audit() (contract.Paths, error) {
	books, err := s.ledger.Books(*s.account().books(new(losses), 0))
	return books.Unknown, err
}

// Held is how many packets the qdiscs hold.
func (s *Stage) Held() (int, error) {
	stats, err := s.dev.Link().QdiscStats()
	return int(netdev.SumQdiscs(stats).Qlen), err
}

// Requeues is how often the qdiscs took a packet back.
func (s *Stage) Requeues() (uint64, error) {
	stats, err := s.dev.Link().QdiscStats()
	return uint64(netdev.SumQdiscs(stats).Requeues), err
}

// Odd counts packets by their length that are not as long as the filter makes
// them.
func (s *Stage) Odd() map[int]uint64 { return s.receiver.Odd() }

// Revive brings a stalled stage back to an empty ring and qdisc, and says
// whether it moves again: that takes less time than to make another.
func (s *Stage) Revive() bool {
	s.ledger.Reconfigured()
	link := s.dev.Link()
	if link.SetUp(false) != nil || link.SetUp(true) != nil || s.dev.Resize() != nil || link.SetQdisc(netdev.Qdisc{Kind: s.at.Qdisc}) != nil {
		return false
	}
	if _, err := s.Drain(driver.All); err != nil {
		return false
	}
	if s.Realign() != nil || s.Fill(1) != nil || !s.Readable(Suspicion) {
		return false
	}
	n, err := s.Drain(driver.All)
	if err != nil || n != 1 {
		return false
	}
	return s.Forget() == nil
}

// Forget forgets what was dropped so far.
func (s *Stage) Forget() error {
	_, err := s.freed()
	return err
}
