// Package driver is the interface between the harness and the drivers that it tests:
// what a driver offers, and what its devices can do.
//
// Each driver has a package of its own below this one. No other package depends on that
// driver. To add a driver, see docs/drivers.md.
package driver

import (
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
)

// Driver is a driver under test.
type Driver struct {
	// Name is as in DRIVER=NAME.
	Name string
	// Contract is what the running kernel's driver claims: what CONTRACT=auto
	// stands for.
	Contract func() (contract.Contract, error)
	// Ring is how many packets each ring takes; 0 is tx_queue_len.
	Ring int
	// TxQueueLens are those that devices of Make are tried with.
	TxQueueLens []int
	// Refuses: the packet that finds the ring full is given back, and stops the txq.
	// Else the one that takes the last slot stops it.
	Refuses bool
	// TxqOfCPU: packets of a packet socket go to the txq of the CPU that sends them
	// (net/packet/af_packet.c: packet_pick_tx_queue), for the driver chooses none.
	TxqOfCPU bool
	// Whole: its consumer cannot be made to take a few packets only.
	Whole bool
	// Open makes a device with one txq for schedules and sequences of faults.
	// What the kernel lacks for it is a *kernelfeature.MissingError.
	Open func(Setup) (Device, error)
	// Modes are the kinds of devices that Make makes, the usual one first.
	Modes []Mode
	// OtherReaders are ways to consume that are no mode of their own.
	OtherReaders []Readers
	// Changes are what can be done to a device of Make whose txqs are all stopped, with
	// its consumers held up.
	Changes []Change
	// Make makes a device with any number of txqs, whose consumers run by
	// themselves, for producers that run by themselves.
	Make func(Shape) (Made, error)
	// Targets are the functions that are held up, those of the usual consumer first.
	Targets []Target
	// Tried are the settings in which they are.
	Tried []Tried
	// Opponents and Faults are those that only this driver's devices have: what
	// is done to any device is in inject/schedule and inject/fault.
	Opponents func() []*Opponent
	Faults    func(Consumer) []*Fault
	// Paths says what counts a packet that one of the driver's functions frees.
	Paths map[string]Path
	// FullRing are the functions that free a packet which found the ring full without
	// giving a reason, when it belongs to the device at the other end already.
	FullRing []string
	// DefaultQdisc is the root qdisc of a device of Open that has come up without one.
	DefaultQdisc netdev.Kind
	// Readers are the functions that free a packet when a consumer has got it; none if
	// it does not belong to the device any more by then.
	Readers []string
}

// Consumer is who takes packets from a device's ring; "" is the driver's usual
// one. In the ids of schedules, any other is named.
type Consumer string

// Setup says what device to make.
type Setup struct {
	Ring  int // slots
	Qdisc netdev.Kind
	// Backpressure: it is opened with the flag that opts in.
	Backpressure bool
	Consumer     Consumer
}

// Mode is a kind of device, with who consumes.
type Mode struct {
	Name string
	// Consumer is how its packets are read.
	Consumer traffic.ConsumerConfig
	// Beside: it is tried by TestNoStall only, with so many txqs; 0 is 4.
	Beside   bool
	TxQueues int
	// Free: nothing can hold the consumer up, so that its rings, if there are any, are
	// not known to fill.
	Free bool
}

// Readers are a way to consume the packets of a mode's devices.
type Readers struct {
	Name, Mode string
	Consumer   traffic.ConsumerConfig
	Packets    uint64 // to wait for
	TxQueueLen int    // 0 is 16
}

// Change is something that is done to a device, and undone when its rings are empty. A
// device that is as it was must work as it did.
type Change struct {
	Name     string
	Mode     string // "" is the usual one
	TxQueues int
	// Before is done before the rings are filled, in place of holding the consumers up:
	// from the second packet on they take nothing. Nil if they are held up.
	Before   func(Made) error
	Do, Undo func(Made) error
}

// Shape says what device to make.
type Shape struct {
	Mode       string
	TxQueues   int
	TxQueueLen int
	Qdisc      netdev.Qdisc
	// Backpressure: it is opened with the flag that opts in.
	Backpressure bool
}

// Made is a device of Make.
type Made interface {
	// Link is the device as any network device.
	Link() *netdev.Device
	// Counters are what counts its packets, and those that it drops: Link, for most.
	Counters() Counters
	// Far is the index of the device at the other end, to which packets belong once
	// the driver has passed them on; 0 if there is none.
	Far() int
	// Queues are the descriptors that its packets are read from, one for each txq.
	Queues() []int
	// Taker takes packets from the rings to the descriptors; nil if who reads those
	// does.
	Taker() traffic.Taker
	// Settle waits until what was sent through it is in a ring, or freed.
	Settle() error
	// Revivals is what may set it going when it is stalled, the least first. What is
	// queued may be lost by it.
	Revivals() []Revival
	// Close removes it.
	Close() error
}

// Counters are the counters of a device and of its qdiscs. TxDropped is where the driver
// counts what it drops.
type Counters interface {
	Name() string
	Ifindex() int
	Stats() (netdev.Stats, error)
	QdiscStats() ([]netdev.QdiscStats, error)
}

// Target is a driver's function that is held up, with all that it calls in the
// driver.
type Target struct {
	Root string
	// Consumes: it takes packets from the ring. Else it is the driver's transmit.
	Consumes bool
	// Consumer is who takes packets, on either side.
	Consumer Consumer
	// Paired: only Root's own instructions are held up in pairs; else all from where a
	// lock is taken on.
	Paired bool
	// Also are prefixes of the names of what else is the driver's.
	Also []string
	// Available returns nil, or a *kernelfeature.MissingError; nil is always.
	Available func() error
}

// Tried are settings for schedules: all rings with all qdiscs.
type Tried struct {
	Consumer Consumer
	Rings    []int
	Qdiscs   []netdev.Kind
	// Control: with opponents that change the device; else with all others.
	Control bool
	When    Effort
}

// Effort is how much is tried.
type Effort int

const (
	Short      Effort = iota // always
	Usual                    // unless -short
	Everything               // with SCHEDULES=all
)

// Path says which counter, if any, moves when a packet is freed somewhere.
type Path int

const (
	// Unknown: it is not known. All that are freed there move the same counter,
	// or none.
	Unknown Path = iota
	// DriverCounts: the device's tx_dropped.
	DriverCounts
	// QdiscCounts: the qdisc's drops or, while the device has none that is active,
	// the device's tx_dropped.
	QdiscCounts
	// Uncounted: none.
	Uncounted
)

// Device is a device with one txq, and with one ring, whose consumer does what it
// is told.
type Device interface {
	// Link is the device as any network device.
	Link() *netdev.Device
	// Far is the index of the device at the other end, to which packets belong once
	// the driver has passed them on; 0 if there is none.
	Far() int
	// Slots is the size of the ring.
	Slots() int
	// Resize changes the ring's size and back, which wakes the txq of most
	// designs. What is in the ring stays, from its start on.
	Resize() error
	// HeaderBytes are in front of each packet that is read.
	HeaderBytes() int
	// Read takes one packet from the ring, on this thread. It returns EAGAIN if
	// there is none, or no queue.
	Read(buf []byte) (int, error)
	// Readable waits until there is something to read, or for the time.
	Readable(wait time.Duration) bool
	// Block says whether Read sleeps until there is a packet.
	Block(on bool) error
	// Discarded is how many packets were read that nobody has looked at.
	Discarded() uint64
	// Worker is the consumer that takes packets by itself; nil if there is none
	// beside Read.
	Worker() Worker
	// HeldUp: its consumer was told to take nothing, whoever reads.
	HeldUp() bool
	// Trim cuts so many bytes from the end of each packet that is sent.
	Trim(bytes int) error
	// Undo is what keeps the device from working at all, each as the fault that
	// undoes it.
	Undo(Bench) []Step
	// Restart makes it what it was when it was opened, but for its qdisc.
	Restart(Bench) error
	// Close removes it.
	Close() error
}

// Worker is a consumer in the kernel, which takes packets from the ring by itself
// and puts them into the buffers that it is offered. It may have packets in hand
// for which it has none.
type Worker interface {
	// Start and Stop say whether it takes packets. It begins stopped, and must
	// be so when its ring is read otherwise.
	Start() error
	Stop() error
	// Pin keeps it on a CPU, and Park names the one where it is kept from running
	// while it is stopped, if it has to be.
	Pin(cpu int) error
	Park(cpu int) error
	// Settle returns when it has done all that it was woken for before.
	Settle() error
	// Offer gives it buffers for so many packets more, and wakes it.
	// OfferUnkicked does not wake it.
	Offer(packets int)
	OfferUnkicked(packets int)
	// Hand is how many packets it takes before it waits for the first buffers, or,
	// if it is Inline, before it is stopped.
	Hand() int
	// Inline: packets are taken by the thread that calls Start or Offer, before these
	// return.
	Inline() bool
	// Size is how many buffers there are, Free how many it does not have.
	Size() int
	Free() int
	// Read reads what it has put into a buffer; EAGAIN if there is nothing.
	Read(buf []byte) (int, error)
	// Await waits until it has put something into a buffer, or for the time.
	Await(wait time.Duration) bool
}

// Bench is where a device is tried: its ring, and who sends to it.
type Bench interface {
	Device() Device
	// Qdisc is the root qdisc.
	Qdisc() netdev.Kind
	// Fill sends so many packets through the qdisc, Bypass past it. That a
	// packet is refused or dropped is no error.
	Fill(packets int) error
	Bypass(packets int) error
	// Drain takes up to so many packets, and says how many there were.
	Drain(max int) (int, error)
	// Consumed says that packets were taken from the ring otherwise.
	Consumed(packets int)
	// Renewed says that the ring is another one, and empty or full.
	Renewed()
	// RenewedEmpty says that it is another one and empty, and that what the old one had
	// passed on was collected.
	RenewedEmpty()
	// Reopen gives the senders new sockets, which a device needs that was in another
	// network namespace.
	Reopen() error
	// Plug says whether the worker takes packets from now on, or Read does.
	// Start and Stop are the device's to call.
	Plug(worker bool)
	Plugged() bool
	// Collect takes what the worker, which is stopped, has put into buffers.
	Collect() error
}

// Revival is something that may set a stalled device going again.
type Revival struct {
	Name string
	Do   func() error
}

// All is more packets than any ring or qdisc holds.
const All = 1 << 20
