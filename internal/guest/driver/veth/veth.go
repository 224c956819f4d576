// Package veth is the driver under test of veth pairs (drivers/net/veth.c). The near end
// is the device under test. Its packets go into a ring of the far end, which NAPI
// empties; what arrives there is read from packet sockets.
package veth

import (
	"errors"
	"runtime"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"golang.org/x/sys/unix"
)

// Consumers: NAPI of the far end polls because that has GRO, or an XDP program that
// passes everything; in softirqs, or with GRO in a thread.
const (
	GRO      driver.Consumer = "gro"
	XDP      driver.Consumer = "xdp"
	Threaded driver.Consumer = "threaded"
)

// Driver is veth.
var Driver = &driver.Driver{
	Name:     "veth",
	Contract: claims,
	Modes:    modes,
	Make:     makeDevice,
	Changes:  changes,
	Ring:     slots,
	// Only pfifo_fast and pfifo are told by it how much they hold.
	TxQueueLens: []int{16, 1000},
	Open:        open,
	// The packet that finds the ring full goes back to the qdisc
	// (drivers/net/veth.c: veth_xmit, NETDEV_TX_BUSY).
	Refuses:  true,
	Whole:    true,
	TxqOfCPU: true,
	Targets: []driver.Target{
		{Root: "veth_xmit", Consumer: GRO},
		{Root: "veth_poll", Consumes: true, Consumer: GRO, Paired: true},
		{Root: "veth_xmit", Consumer: XDP},
		{Root: "veth_poll", Consumes: true, Consumer: XDP, Paired: true},
		{Root: "veth_xmit", Consumer: Threaded},
		{Root: "veth_poll", Consumes: true, Consumer: Threaded, Paired: true},
	},
	Tried: []driver.Tried{
		{Consumer: GRO, Rings: []int{slots}, Qdiscs: []netdev.Kind{netdev.FQCodel}},
		{Consumer: GRO, Rings: []int{slots}, Qdiscs: []netdev.Kind{netdev.PfifoFast, netdev.Noqueue}, When: driver.Usual},
		{Consumer: XDP, Rings: []int{slots}, Qdiscs: []netdev.Kind{netdev.FQCodel}, When: driver.Usual},
		{Consumer: XDP, Rings: []int{slots}, Qdiscs: []netdev.Kind{netdev.PfifoFast, netdev.Noqueue}, When: driver.Everything},
		{Consumer: GRO, Rings: []int{slots}, Qdiscs: []netdev.Kind{netdev.FQCodel}, Control: true, When: driver.Usual},
		{Consumer: XDP, Rings: []int{slots}, Qdiscs: []netdev.Kind{netdev.FQCodel}, Control: true, When: driver.Usual},
		{Consumer: GRO, Rings: []int{slots}, Qdiscs: []netdev.Kind{netdev.Noqueue}, Control: true, When: driver.Everything},
		// What holds threads up takes a CPU, and each schedule several times as long.
		{Consumer: Threaded, Rings: []int{slots}, Qdiscs: []netdev.Kind{netdev.FQCodel}, When: driver.Everything},
		{Consumer: Threaded, Rings: []int{slots}, Qdiscs: []netdev.Kind{netdev.FQCodel}, Control: true, When: driver.Everything},
	},
	Opponents:    opponents,
	DefaultQdisc: netdev.Noqueue, // drivers/net/veth.c: veth_setup, IFF_NO_QUEUE
	Faults:       faults,
	Paths:        paths,
	FullRing:     fullRing,
}

// claims: since 6.16, and 6.12 of the stable trees, a full ring stops the txq unless the
// device has no qdisc.
func claims() (contract.Contract, error) { return contract.Lossless, nil }

// fullRing are the functions that free a packet which has found the ring full, and for
// no other reason once it belongs to the far end (drivers/net/veth.c: veth_xmit, of
// which dev_kfree_skb_any may be a call of its own).
var fullRing = []string{"veth_xmit", "dev_kfree_skb_any_reason"}

// paths: see the table in the documentation of package ledger.
var paths = map[string]driver.Path{
	"veth_xmit":                driver.DriverCounts,
	"dev_kfree_skb_any_reason": driver.DriverCounts,
	"__dev_forward_skb":        driver.DriverCounts,
	"__dev_forward_skb2":       driver.DriverCounts,
	"veth_forward_skb":         driver.DriverCounts,
	"enqueue_to_backlog":       driver.DriverCounts,
	"netif_rx_internal":        driver.DriverCounts,

	"veth_ptr_free":           driver.Uncounted,
	"ptr_ring_cleanup":        driver.Uncounted,
	"__ptr_ring_cleanup":      driver.Uncounted,
	"veth_napi_del_range":     driver.Uncounted,
	"veth_napi_del":           driver.Uncounted,
	"veth_disable_xdp":        driver.Uncounted,
	"veth_disable_range_safe": driver.Uncounted,
	"veth_close":              driver.Uncounted,
	"veth_set_features":       driver.Uncounted,
	// An XDP program has dropped it, or sent it elsewhere.
	"veth_xdp_rcv_skb": driver.Uncounted,
}

// device is a pair with one ring.
type device struct {
	*end
	setup  driver.Setup
	worker worker
}

func open(setup driver.Setup) (driver.Device, error) {
	by := waysOfOpen[setup.Consumer]
	if by.threads && runtime.NumCPU() < 4 {
		return nil, cpus(4, "CPU for what polls, beside those of a schedule")
	}
	e, err := openEnd(by, 1, hogCPU(), nil, netdev.Qdisc{Kind: setup.Qdisc})
	if err != nil {
		return nil, err
	}
	d := &device{end: e, setup: setup, worker: worker{end: e}}
	if err := d.worker.Stop(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return d, nil
}

// of is the device on a bench.
func of(b driver.Bench) *device { return b.Device().(*device) }

func (d *device) Slots() int { return slots }

func (d *device) HeaderBytes() int { return 0 }

// Read: the ring is NAPI's alone.
func (d *device) Read([]byte) (int, error) { return 0, unix.EAGAIN }

func (d *device) Readable(wait time.Duration) bool { return d.worker.Await(wait) }

func (d *device) Block(bool) error { return nil }

func (d *device) Discarded() uint64 { return 0 }

func (d *device) Worker() driver.Worker { return &d.worker }

func (d *device) HeldUp() bool { return d.holds() }

func (d *device) Trim(int) error { return errors.New("a veth pair has no filter that trims packets") }

// Resize makes the ring anew, and empty.
func (d *device) Resize() error { return d.renew() }

// renew switches NAPI of the far end off and on, which makes its ring anew.
func (d *device) renew() error {
	held := d.holds()
	var err error
	switch d.setup.Consumer {
	case GRO, Threaded:
		err = errors.Join(d.Hold(false), d.setGRO(false), d.setGRO(true))
	case XDP:
		err = errors.Join(d.Hold(false), d.detach(), d.attach(always(xdpPass)))
	}
	return errors.Join(err, d.find(), d.Hold(held))
}

// Undo lets the threads that poll go on, takes the far end up, and has it use NAPI as it
// was made to.
func (d *device) Undo(driver.Bench) []driver.Step { return undo(d) }

func (d *device) Restart(b driver.Bench) error { return restart(b, d) }

func (d *device) Close() error { return d.end.Close() }
