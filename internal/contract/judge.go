package contract

import "fmt"

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
	// Backpressure is whether the device was opened with IFF_BACKPRESSURE.
	Backpressure bool
	// AsksToQueue is how often the kernel logged that the device "asks to
	// queue packet", which it does when a queue without a qdisc is stopped
	// (net/core/dev.c: __dev_queue_xmit).
	AsksToQueue int
}

// lost says that packets were lost without a trace in any counter and without
// being called dropped, which no contract allows; "" if the books do not show
// that.
func (s *Seen) lost() string {
	if s.BooksErr != nil {
		return ""
	}
	return s.Books.Silent()
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
	if tail := s.Books.DropsFor(FullRing); s.Books.DeviceTxDropped < tail {
		return fmt.Sprintf("%d packets were tail-dropped, but tx_dropped counts %d", tail, s.Books.DeviceTxDropped)
	}
	return ""
}

// NoTailDrop decides the promise of that name for a device with a qdisc.
func (c Contract) NoTailDrop(s *Seen) (Outcome, string) {
	if why := s.uncounted(); why != "" {
		return Broken, why
	}
	if why := s.lost(); why != "" {
		return Broken, why
	}
	if why := s.undecidable(); why != "" {
		return Undecided, why
	}
	b := s.Books
	if b.Duplicated+b.Reordered+b.Corrupted != 0 {
		return Broken, fmt.Sprintf("%d packets arrived twice, %d out of order, %d altered", b.Duplicated, b.Reordered, b.Corrupted)
	}
	tail := b.DropsFor(FullRing)
	figures := fmt.Sprintf("%d of %d packets tail-dropped with a qdisc attached", tail, b.Offered)

	expect := c.Of(s.Backpressure)
	switch {
	case expect == Stock && tail == 0:
		return Broken, "no tail drop, but " + string(c) + " expects the driver to drop when its ring is full: wrong contract, or blind instruments"
	case expect == Stock, tail == 0:
		return Kept, figures
	case expect == Lossless || s.Overlap <= 1:
		return Broken, figures
	case s.Stops == nil:
		return Undecided, figures + "; rare-drop allows some for each stop of the queue, but stops were not counted"
	}
	allowed := uint64(s.Overlap-1) * *s.Stops
	figures += fmt.Sprintf("; %d allowed: %d overlapping transmits, %d stops of the queue", allowed, s.Overlap, *s.Stops)
	if tail > allowed {
		return Broken, figures
	}
	return Kept, figures
}

// NoqueueDrops decides the promise of that name for a device with noqueue;
// every contract expects the same of it.
func (c Contract) NoqueueDrops(s *Seen) (Outcome, string) {
	if s.AsksToQueue > 0 {
		return Broken, fmt.Sprintf("a queue without a qdisc was stopped: the kernel logged %d times that the device asks to queue packet", s.AsksToQueue)
	}
	if why := s.uncounted(); why != "" {
		return Broken, why
	}
	if why := s.lost(); why != "" {
		return Broken, why
	}
	if why := s.undecidable(); why != "" {
		return Undecided, why
	}
	b := s.Books
	if b.Duplicated+b.Reordered+b.Corrupted != 0 {
		return Broken, fmt.Sprintf("%d packets arrived twice, %d out of order, %d altered", b.Duplicated, b.Reordered, b.Corrupted)
	}
	tail := b.DropsFor(FullRing)
	if tail == 0 {
		return Broken, fmt.Sprintf("%d packets offered to a full ring with noqueue, and none was dropped for it", b.Offered)
	}
	return Kept, fmt.Sprintf("%d of %d packets tail-dropped, as a full ring without a qdisc must", tail, b.Offered)
}
