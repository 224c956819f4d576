// Package tun is the driver under test of tun and tap devices, whose consumer is
// read(2) or vhost-net (drivers/net/tun.c, drivers/vhost/net.c).
package tun

import (
	"errors"
	"fmt"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"github.com/ringproof/ringproof/internal/guest/vhost"
	"golang.org/x/sys/unix"
)

// Consumers.
const (
	Reading driver.Consumer = "" // read(2)
	Vhost   driver.Consumer = "vhost"
)

// Driver is tun.
var Driver = &driver.Driver{
	Name:         "tun",
	Contract:     claims,
	TxQueueLens:  []int{1, 2, 16, 500, 1000},
	Open:         open,
	Modes:        modes,
	OtherReaders: readers,
	Make:         makeDevice,
	// drivers/net/tun.c: tun_netdev_ops, tap_netdev_ops, tun_fops; and vhost-net
	// as far as it takes packets from tap's ring and waits for more
	// (drivers/vhost/net.c, and vhost_poll_* of vhost.c). What it does with a
	// packet that it has is the virtqueue's affair.
	Targets: []driver.Target{
		{Root: "tun_net_xmit"},
		{Root: "tun_chr_read_iter", Consumes: true},
		{Root: "tun_net_xmit", Consumer: Vhost, Available: vhost.Available},
		{Root: "handle_rx", Consumes: true, Consumer: Vhost, Available: vhost.Available,
			Also: []string{"vhost_net_", "vhost_poll_", "peek_head_len", "get_rx_bufs", "tun_"}},
	},
	Tried:        tried,
	Opponents:    opponents,
	DefaultQdisc: netdev.MQ, // net/sched/sch_generic.c: attach_default_qdiscs
	Faults:       faults,
	Paths:        paths,
	Readers:      []string{"tun_do_read", "tun_recvmsg", "tun_chr_read_iter"},
}

// claims: a driver that offers IFF_BACKPRESSURE claims opt-in, and one that does
// not is taken for a patch that makes all devices lossless.
func claims() (contract.Contract, error) {
	features, err := tuntap.Features()
	return contract.Auto.Resolve(features&tuntap.IFFBackpressure != 0), err
}

// paths: see the table in the documentation of package ledger.
var paths = map[string]driver.Path{
	"tun_net_xmit": driver.DriverCounts,

	"tun_ptr_free":          driver.Uncounted,
	"__ptr_ring_swap_queue": driver.Uncounted,
	"tun_queue_purge":       driver.Uncounted,
	"tun_device_event":      driver.Uncounted,
	"tun_queue_resize":      driver.Uncounted,
	"__tun_detach":          driver.Uncounted,
	"tun_detach_all":        driver.Uncounted,
	"tun_do_read":           driver.Uncounted,
}

// vnetHeader is the size of a virtio_net_hdr unless TUNSETVNETHDRSZ says otherwise.
const vnetHeader = 10

// device is a tap device with one queue.
type device struct {
	*tuntap.Device
	setup driver.Setup
	// queue is the index of the queue that is read, which changes when it is
	// closed and opened again.
	queue    int
	attached bool
	slots    int
	// backpressure is whether it was last opened with IFF_BACKPRESSURE.
	backpressure bool
	// next is a queue that is to take the place of the first, and gone whether
	// that was detached for it.
	next      int
	gone      bool
	discarded uint64
	worker    *worker  // nil unless vhost-net consumes
	steering  steering // loaded when it is first needed
}

// open makes a tap device, with a virtqueue if vhost-net is to consume.
func open(setup driver.Setup) (_ driver.Device, err error) {
	d := &device{setup: setup, attached: true, slots: setup.Ring, backpressure: setup.Backpressure}
	// With IFF_VNET_HDR, as virtual machines have it, a read into memory that
	// is not there fails: the driver heeds whether it could copy that header
	// (drivers/net/tun.c: tun_put_user), and nothing else.
	flags := uint16(unix.IFF_VNET_HDR)
	if setup.Backpressure {
		flags |= tuntap.IFFBackpressure
	}
	// With IFF_MULTI_QUEUE a queue can be detached.
	d.Device, err = tuntap.Open(tuntap.Config{
		Mode: tuntap.TAP, MultiQueue: true, TxQueueLen: &setup.Ring, Qdisc: netdev.Qdisc{Kind: setup.Qdisc}, Flags: flags,
	})
	if err != nil {
		return nil, err
	}
	if setup.Consumer == Vhost {
		if d.worker, err = newWorker(d.fd()); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}

// of is the device on a bench.
func of(b driver.Bench) *device { return b.Device().(*device) }

func (d *device) fd() int { return d.Queues()[d.queue] }

func (d *device) Link() *netdev.Device { return d.Device.Device }

func (d *device) Far() int { return 0 }

func (d *device) Slots() int { return d.slots }

func (d *device) HeaderBytes() int {
	if d.worker != nil {
		return vhost.HeaderBytes
	}
	return vnetHeader
}

func (d *device) Read(buf []byte) (int, error) {
	n, err := unix.Read(d.fd(), buf)
	if errors.Is(err, unix.EBADFD) { // it is detached
		err = unix.EAGAIN
	}
	return n, err
}

func (d *device) Readable(wait time.Duration) bool { return poll(d.fd(), wait) }

// poll waits until there is something to read from fd, or for the time.
func poll(fd int, wait time.Duration) bool {
	timeout := unix.NsecToTimespec(wait.Nanoseconds())
	n, _ := unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, &timeout, nil)
	return n > 0
}

func (d *device) Block(on bool) error {
	if err := unix.SetNonblock(d.fd(), !on); err != nil {
		return fmt.Errorf("let reads of %s sleep: %w", d.Name(), err)
	}
	return nil
}

func (d *device) Discarded() uint64 { return d.discarded }

// HeldUp: it is read on whichever thread asks.
func (d *device) HeldUp() bool { return false }

func (d *device) Worker() driver.Worker {
	if d.worker == nil {
		return nil
	}
	return d.worker
}

func (d *device) Resize() error {
	return errors.Join(d.SetTxQueueLen(d.slots+1), d.SetTxQueueLen(d.slots))
}

// resize sets tx_queue_len, which is the ring's size.
func (d *device) resize(slots int) error {
	err := d.SetTxQueueLen(slots)
	if err == nil {
		d.slots = slots
	}
	return err
}

// Restart begins anew: a ring of the first size, IFF_BACKPRESSURE as it was
// first, and a worker without buffers.
func (d *device) Restart(b driver.Bench) error {
	if d.backpressure != d.setup.Backpressure {
		if err := d.switchover(b); err != nil {
			return err
		}
	}
	if err := d.resize(d.setup.Ring); err != nil || d.worker == nil {
		return err
	}
	if err := d.unsetBackend(b); err != nil {
		return err
	}
	return d.setBackend(b)
}

func (d *device) Close() error {
	var errs []error
	if d.worker != nil {
		errs = append(errs, d.worker.Close())
	}
	return errors.Join(append(errs, d.Device.Close(), d.steering.Program.Close())...)
}
