package contract

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Seen is what one check saw on one device.
type Seen struct {
	Books *Books
	// BooksErr is why Books cannot be trusted: they do not balance, or two
	// witnesses of the same drops disagree. Nil if they can.
	BooksErr error
	// Pressed is whether a producer had more to send than the ring could
	// hold. Without it nothing that was seen decides anything.
	Pressed bool
	// Overlap is how many transmits can run at once on one txq: 1 for any
	// number of senders through one root qdisc, which runs on one CPU at a
	// time (net/sched/sch_generic.c: qdisc_run_begin).
	Overlap int
	// Stops is how often the queue was stopped; nil if that was not counted.
	Stops *uint64
	// Overtaken is how many transmits may find the ring full that were let
	// through while it was not: what RareDrop allows where it is known, and not
	// only bounded by Overlap and Stops.
	Overtaken uint64
	// TailDrops: what was done makes any driver drop.
	TailDrops bool
	// Noqueue is whether the device has no qdisc. NoTailDrop and NoqueueDrops, each
	// for one kind of device, do not ask.
	Noqueue bool
	// Backpressure is whether the device was opened with IFF_BACKPRESSURE.
	Backpressure bool
	// AsksToQueue is how often it was seen, in the kernel's log or by what was
	// freed, that the device "asks to queue packet", which the kernel says when a
	// queue without a qdisc is stopped (net/core/dev.c: __dev_queue_xmit).
	AsksToQueue int
	// CountersUnread: Books has none of the device's own counters.
	CountersUnread bool
	// Wrong packets, beyond those that Books has, arrived twice, out of order, or altered.
	Wrong uint64
	// Odd counts packets whose length, which is the key, is not what one run of
	// the device's filter makes it.
	Odd map[int]uint64
	// Stalled says how the queue is stalled; "" if it moves.
	Stalled string
}

// undecidable reports what keeps s from deciding anything; "" if nothing does.
func (s *Seen) undecidable() string {
	switch {
	case s.BooksErr != nil:
		return s.BooksErr.Error()
	case !s.Pressed:
		return "the ring was never full, so nothing was tried"
	default:
		return ""
	}
}

// uncounted says that the device's tx_dropped counts fewer packets than the
// driver was seen to drop for want of room; "" if it does not. (More may be an
// instrument that has missed some: that decides nothing.)
func (s *Seen) uncounted() string {
	if tail := s.Books.DropsFor(FullRing); !s.CountersUnread && s.Books.DeviceTxDropped < tail {
		return fmt.Sprintf("%s tail-dropped, but tx_dropped counts %d", Count(tail, "packet was", "packets were"), s.Books.DeviceTxDropped)
	}
	return ""
}

// drops is the promise that says what a full ring does.
func (s *Seen) drops() Promise {
	if s.Noqueue {
		return NoqueueDrops
	}
	return NoTailDrop
}

// Breach says which promise what was seen breaks, and how; "" is none. Whether it
// decides anything else is another question: see NoTailDrop and NoqueueDrops.
func (c Contract) Breach(s *Seen) (Promise, string) {
	if len(s.Odd) > 0 {
		var odd []string
		for _, length := range slices.Sorted(maps.Keys(s.Odd)) {
			odd = append(odd, fmt.Sprintf("%d of %d bytes", s.Odd[length], length))
		}
		return RequeueIntact, "packets went through the device's filter more than once: " + strings.Join(odd, ", ")
	}
	if s.Stalled != "" {
		return NoStall, s.Stalled
	}
	if s.Noqueue && s.AsksToQueue > 0 {
		return NoqueueDrops, fmt.Sprintf("a queue without a qdisc was stopped: the device asked %s to queue a packet", Count(s.AsksToQueue, "time"))
	}
	if why := s.uncounted(); why != "" {
		return s.drops(), why
	}
	if s.BooksErr != nil {
		return "", ""
	}
	if why := s.Books.Silent(); why != "" {
		return s.drops(), why
	}
	if wrong := s.Wrong + s.Books.Duplicated + s.Books.Reordered + s.Books.Corrupted; wrong > 0 {
		return s.drops(), Count(wrong, "packet") + " arrived twice, out of order or altered"
	}
	tail, allowed, why := c.tailDrops(s)
	if !s.Noqueue && !s.TailDrops && tail > allowed {
		return NoTailDrop, why
	}
	return "", ""
}

// unbounded is how many tail drops are allowed where any number is.
const unbounded = math.MaxUint64

// tailDrops is how many packets were tail-dropped, how many the contract allows on
// a device with a qdisc, and both in words.
func (c Contract) tailDrops(s *Seen) (tail, allowed uint64, why string) {
	tail = s.Books.DropsFor(FullRing)
	why = fmt.Sprintf("%d of %s tail-dropped with a qdisc attached", tail, Count(s.Books.Offered, "packet"))
	switch expect := c.Of(s.Backpressure); {
	case expect == Stock:
		return tail, unbounded, why
	case expect == Lossless:
		return tail, 0, why
	case s.Overlap <= 1:
		return tail, s.Overtaken, why
	case s.Stops == nil:
		return tail, unbounded, why + "; rare-drop allows some for each stop of the queue, but stops were not counted"
	}
	allowed = uint64(s.Overlap-1) * *s.Stops
	return tail, allowed, why + fmt.Sprintf("; %d allowed: %s, %s of the queue", allowed, Count(s.Overlap, "overlapping transmit"), Count(*s.Stops, "stop"))
}

// NoTailDrop decides the promise of that name for a device with a qdisc.
func (c Contract) NoTailDrop(s *Seen) (Outcome, string) {
	with := *s
	with.Noqueue = false
	if promise, why := c.Breach(&with); promise == NoTailDrop {
		return Broken, why
	}
	if why := s.undecidable(); why != "" {
		return Undecided, why
	}
	tail, allowed, why := c.tailDrops(s)
	stock := c.Of(s.Backpressure) == Stock
	switch {
	case stock && tail == 0:
		return Broken, "no tail drop, but " + string(c) + " expects the driver to drop when its ring is full: wrong contract, or blind instruments"
	case tail > 0 && allowed == unbounded && !stock:
		return Undecided, why
	}
	return Kept, why
}

// NoqueueDrops decides the promise of that name for a device with noqueue;
// every contract expects the same of it.
func (c Contract) NoqueueDrops(s *Seen) (Outcome, string) {
	without := *s
	without.Noqueue = true
	if promise, why := c.Breach(&without); promise == NoqueueDrops {
		return Broken, why
	}
	if why := s.undecidable(); why != "" {
		return Undecided, why
	}
	tail := s.Books.DropsFor(FullRing)
	if tail == 0 {
		return Broken, Count(s.Books.Offered, "packet") + " offered to a full ring with noqueue, and none was dropped for it"
	}
	return Kept, fmt.Sprintf("%d of %s tail-dropped, as a full ring without a qdisc must", tail, Count(s.Books.Offered, "packet"))
}
