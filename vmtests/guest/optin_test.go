package guest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/ledger"
	"github.com/ringproof/ringproof/internal/guest/liveness"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sys/unix"
)

// TestBackpressureFlag holds IFF_BACKPRESSURE to what
// Documentation/networking/tuntap.rst, section 3.4, says of it: who sets it,
// what changes it and what does not, and what it switches. A kernel that does
// not offer the flag ignores it, and the rest is not run.
func TestBackpressureFlag(t *testing.T) { each(t, backpressureFlag) }

func backpressureFlag(t *testing.T) {
	if subject != tun.Driver {
		t.Skip("left out: IFF_BACKPRESSURE is of tun and tap devices")
	}
	const off, on = 0, tuntap.IFFBackpressure
	each := func(name string, check func(t *testing.T, flag uint16)) {
		t.Run(name+"/off", func(t *testing.T) { check(t, off) })
		t.Run(name+"/on", func(t *testing.T) { check(t, on) })
	}
	each("open", func(t *testing.T, flag uint16) {
		f := newFlagged(t, tuntap.Config{Flags: flag}, contract.OptInFlag)
		f.look("as it was opened")
		f.decide()
	})
	// The flag is the device's, and that has a second queue, attached or
	// detached: another opener changes nothing.
	each("second-queue", func(t *testing.T, flag uint16) {
		f := newFlagged(t, tuntap.Config{Flags: flag, MultiQueue: true}, contract.OptInFlag)
		f.needsFlag()
		f.open(on ^ flag)
		f.look("after a second queue was opened, otherwise")
		f.do("detach", f.dev.Detach(1))
		f.look("after that was detached")
		f.open(on ^ flag)
		f.look("after a third queue was opened, otherwise")
		f.do("close", f.dev.CloseQueue(2))
		f.do("close", f.dev.CloseQueue(0))
		f.open(on ^ flag)
		f.look("after the one that was not detached was closed, and one opened, otherwise")
		f.decide()
	})
	each("TUNSETQUEUE", func(t *testing.T, flag uint16) {
		f := newFlagged(t, tuntap.Config{Flags: flag, MultiQueue: true}, contract.OptInFlag)
		f.needsFlag()
		for _, carried := range []uint16{off, on} {
			f.do("detach", setQueue(f.dev, unix.IFF_DETACH_QUEUE|carried))
			f.reported("while its queue is detached")
			f.do("attach", setQueue(f.dev, unix.IFF_ATTACH_QUEUE|carried))
			f.look("after its queue was attached")
		}
		f.decide()
	})
	each("TUNSETPERSIST", func(t *testing.T, flag uint16) {
		f := newFlagged(t, tuntap.Config{Flags: flag}, contract.OptInFlag)
		f.needsFlag()
		f.do("make persistent", f.dev.SetPersist(true))
		f.look("after it was made persistent")
		f.do("make not persistent", f.dev.SetPersist(false))
		f.do("make persistent", f.dev.SetPersist(true))
		f.do("close", f.dev.CloseQueue(0))
		f.reported("while no queue of the persistent device is open")
		f.open(flag)
		f.look("after it was opened again, alike")
		f.decide()
	})
	// A persistent device that nobody has open takes the flag from who opens it
	// next. Its txq was stopped when it was closed, and must not stay so.
	each("reopen", func(t *testing.T, flag uint16) {
		f := newFlagged(t, tuntap.Config{Flags: on ^ flag}, contract.OptInFlag, contract.NoStall)
		f.needsFlag()
		f.do("make persistent", f.dev.SetPersist(true))
		f.send(flagLoad)
		f.do("close", f.dev.CloseQueue(0))
		f.open(flag)
		f.set = flag != 0
		f.drain()
		f.look("after it was opened again, otherwise")
		f.decide()
	})
	t.Run("noqueue", func(t *testing.T) {
		f := newFlagged(t, tuntap.Config{Flags: on, Qdisc: netdev.Qdisc{Kind: netdev.Noqueue}}, contract.OptInFlag)
		f.needsFlag()
		f.idle = true
		f.look("without a qdisc")
		f.decide()
	})
	t.Run("no-slots", func(t *testing.T) {
		f := newFlagged(t, tuntap.Config{Flags: on}, contract.OptInFlag, contract.NoStall)
		f.needsFlag()
		f.resize(0)
		f.idle = true
		f.load("with tx_queue_len 0")
		f.resize(flagSlots)
		f.idle = false
		f.look("with slots again")
		f.decide()
	})
}

const (
	// flagSlots is tx_queue_len, and flagLoad how many packets are sent to
	// see what a full ring does.
	flagSlots = 2
	flagLoad  = 6
)

// flagged is a device that is looked at again and again, while what is done to
// it may change IFF_BACKPRESSURE.
type flagged struct {
	t        *testing.T
	contract contract.Contract
	decides  []contract.Promise
	offered  bool // TUNGETFEATURES has the flag
	dev      *tuntap.Device
	link     *traffic.Link
	ledger   *ledger.Ledger
	fresh    *traffic.Sender
	bypass   *traffic.Sender
	known    contract.Books // what has arrived so far

	asked uint16 // what was last opened was opened with the flag, or 0
	set   bool   // the device is to have the flag
	slots int    // tx_queue_len
	// idle: a full ring stops nothing, flag or not.
	idle bool

	seen     []contract.FlagSeen
	stall    *liveness.Stall
	stallErr error
}

// newFlagged makes a tap device with the configuration, whose qdisc is a pfifo
// unless it says something else.
func newFlagged(t *testing.T, cfg tuntap.Config, decides ...contract.Promise) *flagged {
	t.Helper()
	begin(t, decides...)
	f := &flagged{t: t, contract: contractOf(t), decides: decides, asked: cfg.Flags, set: cfg.Flags != 0, slots: flagSlots}
	cfg.Mode, cfg.TxQueueLen = tuntap.TAP, &f.slots
	if cfg.Qdisc.Kind == "" {
		cfg.Qdisc = netdev.Qdisc{Kind: netdev.Pfifo, Limit: 1000}
	}
	err := f.start(cfg)
	lacking(t, f.contract, f.decides, err)
	switch {
	case err == nil:
		return f
	case f.set && !f.offered && f.dev == nil:
		cfg.Flags = 0
		if f.dev, _ = tuntap.Open(cfg); f.dev != nil {
			f.closing(f.dev.Close())
			report(t, contract.Verdict{
				Promise: contract.OptInFlag, Contract: f.contract, Outcome: contract.Broken,
				Why: fmt.Sprintf("a kernel that does not know the flag is to ignore it: %v", err),
			})
			f.decides = slices.DeleteFunc(f.decides, func(p contract.Promise) bool { return p == contract.OptInFlag })
		}
	}
	f.undecided(err)
	return nil
}

func (f *flagged) start(cfg tuntap.Config) error {
	features, err := tuntap.Features()
	if err != nil {
		return err
	}
	f.offered = features&tuntap.IFFBackpressure != 0
	if f.dev, err = tuntap.Open(cfg); err != nil {
		return err
	}
	f.t.Cleanup(func() { f.closing(f.dev.Close()) })
	if f.link, err = traffic.LinkByName(f.dev.Name()); err != nil {
		return err
	}
	if f.ledger, err = ledger.Open(f.dev, tun.Driver, 0); err != nil {
		return err
	}
	f.t.Cleanup(func() { f.closing(f.ledger.Close()) })
	f.ledger.Reconfigured()
	for _, s := range []struct {
		to     **traffic.Sender
		source uint8
		path   traffic.Path
	}{{&f.fresh, freshSource, traffic.PacketSocket}, {&f.bypass, bypassSource, traffic.PacketBypass}} {
		if *s.to, err = traffic.NewSender(f.link, traffic.SenderConfig{Path: s.path, Source: s.source}); err != nil {
			return err
		}
		f.t.Cleanup(func() { f.closing((*s.to).Close()) })
	}
	return nil
}

func (f *flagged) closing(err error) {
	if err != nil {
		f.t.Error(err)
	}
}

// undecided ends the test, which could not be run to its end.
func (f *flagged) undecided(err error) {
	f.t.Helper()
	f.verdicts(contract.Undecided, err.Error())
	f.t.FailNow()
}

func (f *flagged) verdicts(outcome contract.Outcome, why string) {
	f.t.Helper()
	for _, p := range f.decides {
		report(f.t, contract.Verdict{Promise: p, Contract: f.contract, Outcome: outcome, Why: why})
	}
}

// needsFlag ends the test if the driver does not offer the flag.
func (f *flagged) needsFlag() {
	f.t.Helper()
	if !f.offered {
		notRun(f.t, f.contract, f.decides, "IFF_BACKPRESSURE: TUNGETFEATURES does not have it")
	}
}

// do ends the test if what was done to the device has failed.
func (f *flagged) do(what string, err error) {
	f.t.Helper()
	if err != nil {
		f.undecided(fmt.Errorf("%s: %w", what, err))
	}
}

// open opens one more queue, with the flag or without.
func (f *flagged) open(flag uint16) {
	f.t.Helper()
	if flag != f.asked {
		f.dev.Switch(tuntap.IFFBackpressure)
		f.asked = flag
	}
	_, err := f.dev.AddQueue()
	f.do("open a queue", err)
}

func (f *flagged) resize(slots int) {
	f.t.Helper()
	f.slots = slots
	f.do("resize the ring", f.dev.SetTxQueueLen(slots))
}

// look compares who reports the flag, and, if the driver offers it, what a full
// ring does, with what is to be.
func (f *flagged) look(when string) {
	f.t.Helper()
	f.reported(when)
	if f.offered {
		f.load(when)
	}
}

func (f *flagged) reported(when string) {
	f.t.Helper()
	step("look at the flag "+when, "")
	seen := contract.FlagSeen{When: when, Set: f.set, Reported: make(map[string]bool)}
	for i, fd := range f.dev.Queues() {
		if fd < 0 {
			continue
		}
		flags, err := f.dev.ReportedFlags(i)
		f.do("look", err)
		seen.Reported[fmt.Sprintf("TUNGETIFF of queue %d", i)] = flags&tuntap.IFFBackpressure != 0
	}
	flags, err := f.dev.SysfsFlags()
	f.do("look", err)
	seen.Reported["tun_flags in sysfs"] = flags&tuntap.IFFBackpressure != 0
	f.seen = append(f.seen, seen)
}

// load sends more than the ring holds, sees where it is, and lets it be read.
func (f *flagged) load(when string) {
	f.t.Helper()
	if f.stall != nil || f.stallErr != nil {
		return // what it does cannot be seen
	}
	f.do("wait for the carrier", f.dev.AwaitCarrier())
	before := f.tailDrops()
	f.send(flagLoad)
	l := &contract.FlagLoad{Sent: flagLoad, Slots: uint64(f.slots), Stops: f.set && f.offered && !f.idle}
	// The last packet may be on its way, on another CPU.
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(time.Millisecond) {
		stats, err := f.dev.QdiscStats()
		f.do("look", err)
		l.Held, l.TailDropped = uint64(netdev.SumQdiscs(stats).Qlen), f.tailDrops()-before
		if l.Held+l.TailDropped+l.Slots == l.Sent {
			break
		}
	}
	f.seen = append(f.seen, contract.FlagSeen{When: when, Set: f.set, Load: l})
	if f.slots > 0 {
		f.drain()
	}
}

func (f *flagged) send(packets int) {
	f.t.Helper()
	for range packets {
		outcome, err := f.fresh.Send()
		f.do("send", err)
		if outcome == traffic.Full {
			f.undecided(errors.New("send: the send buffer is full"))
		}
	}
}

func (f *flagged) tailDrops() (n uint64) {
	f.t.Helper()
	freed, err := f.ledger.Freed()
	f.do("ask what was dropped", err)
	for _, r := range freed {
		if r.Reason == contract.FullRing {
			n += r.Count
		}
	}
	return n
}

// drain reads all queues until nothing is left, and asks whether the device
// still moves.
func (f *flagged) drain() {
	f.t.Helper()
	if f.stall != nil || f.stallErr != nil {
		return
	}
	f.do("wait for the carrier", f.dev.AwaitCarrier())
	queues := slices.DeleteFunc(f.dev.Queues(), func(fd int) bool { return fd < 0 })
	readers, err := traffic.Consume(f.link, queues, traffic.ConsumerConfig{})
	f.do("read", err)
	f.stall, f.stallErr = liveness.Check(liveness.Config{
		Device: f.dev, Queues: queues, Received: readers.Received,
		Fresh: []liveness.Sender{f.fresh}, Bypass: []liveness.Sender{f.bypass}, Revivals: tun.Revivals(f.dev),
	})
	f.do("read", readers.Stop())
	readers.Arrivals().Enter(&f.known)
}

// decide closes the books and reports the verdicts.
func (f *flagged) decide() {
	f.t.Helper()
	f.fresh.Counts().Enter(&f.known)
	f.bypass.Counts().Enter(&f.known)
	books, err := f.ledger.Books(f.known)
	for _, p := range f.decides {
		v := contract.Verdict{Promise: p, Contract: f.contract, Books: books}
		switch {
		case p == contract.NoStall:
			v.Outcome, v.Why = stallVerdict(f.stall, f.stallErr)
			if f.stall != nil {
				f.t.Log(f.stall)
			}
		default:
			v.Outcome, v.Why = f.contract.OptInFlag(f.offered, f.seen)
			switch {
			case v.Outcome != contract.Kept:
			case f.stall != nil:
				v.Outcome, v.Why = contract.Undecided, f.stall.Error()
			case f.stallErr != nil:
				v.Outcome, v.Why = contract.Undecided, f.stallErr.Error()
			case err != nil:
				v.Outcome, v.Why = contract.Undecided, err.Error()
			}
		}
		report(f.t, v)
	}
}

// setQueue does what TUNSETQUEUE does to the first queue.
func setQueue(dev *tuntap.Device, flags uint16) error {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(dev.Queues()[0], unix.TUNSETQUEUE, ifr); err != nil {
		return fmt.Errorf("TUNSETQUEUE: %w", err)
	}
	return nil
}
