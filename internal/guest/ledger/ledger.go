package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/rcu"
	"github.com/ringproof/ringproof/internal/guest/symbols"
)

// Ledger counts the freed skbs of one device and keeps its account.
type Ledger struct {
	dev     driver.Counters
	driver  *driver.Driver
	format  *format
	symbols symbols.Table
	// freed counts what is freed as dropped, consumed what is freed as
	// delivered.
	freed, consumed counter
	// opened is how the device's own counters stood at Open or Reset.
	opened readings
	// reconfigured is set by Reconfigured.
	reconfigured bool
}

// counter counts the events of one tracepoint, each once. A program that an
// interrupt finds at work is not run again on that CPU
// (kernel/trace/bpf_trace.c: __bpf_trace_run), so there are two, one after the
// other. The first notes each skb that it counts in seen; the second counts
// those that are not there, and takes out the others. A note that stays, because
// the second was interrupted before it came to it, is known for what it is by
// the first being at work in the same task: then it cannot have counted what
// interrupted it. What preempted the second leaves such notes too; of those, one
// that would hide an skb is told by the number of misses, and the books stay open.
//
// Deliveries are counted by one program, for they are many, and that some may be
// missed matters little: see quiet.
//
// An interrupt of an interrupt could find both at work, but hard interrupts leave
// the freeing of skbs to softirqs (net/core/dev.c: dev_kfree_skb_irq_reason).
type counter struct {
	counts, seen, busy *ebpf.Map
	progs              []*ebpf.Program
	links              []link.Link
	// base is what it had counted, and missed, at Open or Reset: nothing
	// is ever taken out of the map, so that no update races with it.
	base   map[countKey]uint64
	missed uint64
}

// Open begins an account of dev, which must be in the network namespace of the
// calling thread and belong to that driver. The device may be down, but it must not carry traffic yet.
// Close the ledger when done, else the programs stay attached.
//
// far is the index of the device at the other end, to which packets belong once the
// driver has passed them on; 0 if there is none. What is freed as its, in functions that
// pass packets on or back, counts as well.
//
// What the kernel lacks is a *kernelfeature.MissingError that names the option.
func Open(dev driver.Counters, drv *driver.Driver, far int) (_ *Ledger, err error) {
	l := &Ledger{dev: dev, driver: drv}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open the ledger of %s: %w", dev.Name(), err), l.Close())
		}
	}()
	if err := kernelfeature.LockedDown(); err != nil {
		return nil, err
	}
	if l.format, err = loadFormat(); err != nil {
		return nil, err
	}
	if l.symbols, err = symbols.Load(); errors.Is(err, symbols.ErrNoKallsyms) {
		return nil, &kernelfeature.MissingError{Option: "CONFIG_KALLSYMS", What: "names of kernel functions", Err: err}
	} else if err != nil {
		return nil, err
	}
	found, err := findDevice(dev.Ifindex())
	if err != nil {
		return nil, err
	}
	if far != 0 {
		other, err := findDevice(far)
		if err != nil {
			return nil, err
		}
		found.far = other.addr
	}
	freed := tracepoint{name: "kfree_skb", hasLocation: true, hasReason: l.format.hasReason}
	if err := l.freed.start(freed, found, false); err != nil {
		return nil, err
	}
	consumed, err := consumeTracepoint()
	if err != nil {
		return nil, err
	}
	if err := l.consumed.start(consumed, found, true); err != nil {
		return nil, err
	}
	return l, l.Reset()
}

func (l *Ledger) counters() []*counter {
	return []*counter{&l.freed, &l.consumed}
}

// start begins to count, with both programs or with the first only.
func (c *counter) start(tp tracepoint, dev *netDevice, only bool) error {
	if err := c.load(tp, dev, only); err != nil {
		return err
	}
	for _, prog := range c.progs {
		l, err := attach(tp.name, prog)
		if err != nil {
			return err
		}
		c.links = append(c.links, l)
	}
	if only {
		return nil
	}
	// What was freed before there was a second.
	var skbs []uint64
	var skb, same uint64
	entries := c.seen.Iterate()
	for entries.Next(&skb, &same) {
		skbs = append(skbs, skb)
	}
	for _, skb := range skbs {
		if err := c.seen.Delete(skb); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget the skbs that were freed before they were counted: %w", err)
		}
	}
	return entries.Err()
}

// Reset begins a new account on the same device, which must be quiet.
func (l *Ledger) Reset() error {
	l.reconfigured = false
	for _, c := range l.counters() {
		if err := c.reset(); err != nil {
			return err
		}
	}
	opened, err := l.settle()
	if err != nil {
		return err
	}
	l.opened = opened
	return nil
}

func (c *counter) reset() (err error) {
	// In this order: see since.
	if c.base, err = c.read(); err != nil {
		return err
	}
	c.missed, err = c.misses()
	return err
}

// read returns the counts since the program was attached.
func (c *counter) read() (map[countKey]uint64, error) {
	counts := make(map[countKey]uint64)
	var key countKey
	var n uint64
	entries := c.counts.Iterate()
	for entries.Next(&key, &n) {
		counts[key] = n
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read the counts of freed skbs: %w", err)
	}
	return counts, nil
}

// misses is how often the kernel did not run the first program because it had
// interrupted itself. Kernels that do not count that do not skip it either.
func (c *counter) misses() (uint64, error) {
	stats, err := c.progs[0].Stats()
	if err != nil {
		return 0, fmt.Errorf("read how often counting was skipped: %w", err)
	}
	return stats.RecursionMisses, nil
}

// missedSince are the misses since Open or Reset.
func (c *counter) missedSince() (uint64, error) {
	n, err := c.misses()
	return n - c.missed, err
}

// since returns the counts since Open or Reset.
func (c *counter) since() (map[countKey]uint64, error) {
	misses, err := c.missedSince()
	if err != nil {
		return nil, err
	}
	now, err := c.read()
	// The second program may be at work still, or not have begun: a task can be
	// preempted between the two.
	for began := time.Now(); err == nil && c.seen != nil && now[caughtKey]-c.base[caughtKey] < misses && time.Since(began) < time.Second; {
		rcu.Synchronize()
		now, err = c.read()
	}
	if err != nil {
		return nil, err
	}
	if lost := now[lostKey] - c.base[lostKey]; lost != 0 {
		return nil, fmt.Errorf("%s not counted: more than %d places freed some", contract.Count(lost, "freed skb was", "freed skbs were"), c.counts.MaxEntries())
	}
	if caught := now[caughtKey] - c.base[caughtKey]; c.seen != nil && caught < misses {
		return nil, fmt.Errorf("%d freed skbs, of this device or another, were not counted: an interrupt freed them while its CPU was counting another", misses-caught)
	}
	delete(now, caughtKey)
	for key, n := range now {
		if now[key] = n - c.base[key]; now[key] == 0 {
			delete(now, key)
		}
	}
	return now, nil
}

// Freed is how many skbs of the device were freed at one place for one reason.
type Freed struct {
	Reason string // as in SKB_DROP_REASON_*, or its number; "" if consumed
	// Function that freed; " [module]" follows if it is in one.
	Function string
	// Site is the address that the function's call returns to.
	Site  uint64
	Count uint64
	// far: it belonged to the device at the other end.
	far bool
}

// Freed returns what was freed as dropped (skb:kfree_skb) since Open or Reset,
// the largest count first. An error means that not all could be counted.
func (l *Ledger) Freed() ([]Freed, error) {
	counts, err := l.freed.since()
	return l.named(counts, l.format.name), err
}

// Consumed returns what was freed as delivered (skb:consume_skb) since Open or
// Reset; Function is "" if the kernel does not say where. It may be a few less
// than there were.
func (l *Ledger) Consumed() ([]Freed, error) {
	counts, err := l.consumed.since()
	return l.named(counts, func(uint32) string { return "" }), err
}

// named names reasons and functions.
func (l *Ledger) named(counts map[countKey]uint64, reason func(uint32) string) []Freed {
	var freed []Freed
	for key, n := range counts {
		var function string
		if key.Location != 0 {
			function = l.symbols.Caller(key.Location)
		}
		f := Freed{Reason: reason(key.Reason), Function: function, Site: key.Location, Count: n, far: key.Owner == countOwnerFAR}
		if f.far && f.Reason == notSpecified && slices.Contains(l.driver.FullRing, f.function()) {
			f.Reason = contract.FullRing
		}
		if key.Owner == countOwnerOURS || f.far && f.path(l.driver) != driver.Unknown || deferredByQdisc(function) {
			freed = append(freed, f)
		}
	}
	slices.SortFunc(freed, func(a, b Freed) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Function, b.Function), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Site, b.Site))
	})
	return freed
}

// Close detaches the programs. The ledger cannot be used any more.
func (l *Ledger) Close() error {
	var errs []error
	for _, c := range l.counters() {
		for _, l := range c.links {
			errs = append(errs, l.Close())
		}
		for _, prog := range c.progs {
			errs = append(errs, prog.Close())
		}
		errs = append(errs, c.counts.Close(), c.seen.Close(), c.busy.Close())
		*c = counter{}
	}
	return errors.Join(errs...)
}
