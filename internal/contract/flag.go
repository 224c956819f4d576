package contract

import (
	"fmt"
	"maps"
	"slices"
)

// FlagSeen is what one look at a device saw of IFF_BACKPRESSURE.
type FlagSeen struct {
	// When is when that was: "after it was opened again without the flag".
	When string
	// Set is whether the device has the flag, by what was done to it.
	Set bool
	// Reported is who reports the flag, TUNGETIFF and sysfs, and whether that
	// says that it is set.
	Reported map[string]bool
	// Load is what became of more packets than the ring holds; nil if none
	// were sent.
	Load *FlagLoad
}

// FlagLoad is what became of packets that were sent, one at a time, through the
// qdisc to a device whose consumer does not read.
type FlagLoad struct {
	// Sent packets found so many Slots in an empty ring.
	Sent, Slots uint64
	// Held are in the qdisc then, TailDropped were dropped because the ring
	// was full.
	Held, TailDropped uint64
	// Stops is whether a full ring is to stop the queue. It is not without
	// the flag, with noqueue, or if the ring has no slots at all.
	Stops bool
}

// OptInFlag decides the promise of that name from all looks at one device.
// offered is whether TUNGETFEATURES has the flag.
func (c Contract) OptInFlag(offered bool, seen []FlagSeen) (Outcome, string) {
	if c == OptIn && !offered {
		return Broken, "the contract is opt-in, and TUNGETFEATURES has no IFF_BACKPRESSURE"
	}
	for _, s := range seen {
		if why := s.breach(offered); why != "" {
			return Broken, s.When + ": " + why
		}
	}
	switch {
	case len(seen) == 0:
		return Undecided, "the device was never looked at"
	case !offered:
		return Kept, "TUNSETIFF takes the flag, which TUNGETFEATURES does not have, and nobody reports it"
	}
	return Kept, fmt.Sprintf("reported as it should be, and done as reported, each time of %d", len(seen))
}

// breach says what is wrong; "" is nothing.
func (s *FlagSeen) breach(offered bool) string {
	set := s.Set && offered
	for _, who := range slices.Sorted(maps.Keys(s.Reported)) {
		switch {
		case set && !s.Reported[who]:
			return who + " does not report IFF_BACKPRESSURE, which is set"
		case !set && s.Reported[who]:
			return who + " reports IFF_BACKPRESSURE, which is not set"
		}
	}
	l := s.Load
	if l == nil {
		return ""
	}
	held, dropped, how := uint64(0), l.Sent-l.Slots, "drop"
	if l.Stops {
		held, dropped, how = dropped, held, "stop the queue for"
	}
	if l.Held != held || l.TailDropped != dropped {
		return fmt.Sprintf("of %s to a ring of %s the qdisc holds %d, and the driver tail-dropped %d: it was to %s %d",
			Count(l.Sent, "packet"), Count(l.Slots, "slot"), l.Held, l.TailDropped, how, held+dropped)
	}
	return ""
}
