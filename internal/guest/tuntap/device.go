// Package tuntap makes tun and tap devices, with one queue or several. They carry only
// what a test sends.
package tuntap

import (
	"errors"
	"fmt"

	"github.com/ringproof/ringproof/internal/guest/netdev"
	"golang.org/x/sys/unix"
)

// Mode is the kind of device.
type Mode uint16

const (
	TUN Mode = unix.IFF_TUN // IP packets, no link header
	TAP Mode = unix.IFF_TAP // Ethernet frames
)

func (m Mode) String() string {
	switch m {
	case TUN:
		return "tun"
	case TAP:
		return "tap"
	}
	return fmt.Sprintf("Mode(%d)", uint16(m))
}

// IFFBackpressure is the TUNSETIFF flag of the opt-in design; Features tells
// whether the driver knows it.
const IFFBackpressure = 0x0080

// Config says what device to make. Only Mode is required.
type Config struct {
	Mode Mode
	// Name of the interface; "" lets the kernel choose. A persistent device
	// of that name is attached to.
	Name string
	// Queues to attach, each a file descriptor of its own; 0 means 1. From 2
	// on the device is IFF_MULTI_QUEUE.
	Queues int
	// MultiQueue sets IFF_MULTI_QUEUE with one queue too: without it a
	// queue cannot be detached (drivers/net/tun.c: tun_set_queue).
	MultiQueue bool
	// TxQueueLen is the size of each queue's ring, in packets. nil keeps the
	// kernel's default (drivers/net/tun.c: TUN_READQ_SIZE, 500); 0 is a ring
	// of no slots.
	TxQueueLen *int
	// Qdisc is set once the device is otherwise ready. The zero value keeps
	// the kernel's default.
	Qdisc netdev.Qdisc
	// Flags are further TUNSETIFF flags, IFFBackpressure or
	// unix.IFF_VNET_HDR for example. IFF_NO_PI is always set.
	Flags uint16
}

// Device is a tun or tap device and the queues that are open on it. Its
// methods may not be called concurrently with Close or CloseQueue.
type Device struct {
	*netdev.Device // nil until the first queue is attached
	mode           Mode
	flags          uint16
	// fds holds a descriptor for each queue in the order in which they were
	// opened; -1 after CloseQueue.
	fds []int
}

// Open makes the device and brings it up. It is quiet: no IPv6, no ARP and no
// multicast, so that the kernel sends nothing of its own through it. Close it
// when done, else it lives until the process ends.
//
// A kernel without tun or without the qdisc is a *kernelfeature.MissingError.
func Open(cfg Config) (*Device, error) {
	if cfg.Mode != TUN && cfg.Mode != TAP {
		return nil, fmt.Errorf("open tun device: Mode must be TUN or TAP, not %v", cfg.Mode)
	}
	queues := max(cfg.Queues, 1)
	d := &Device{mode: cfg.Mode, flags: uint16(cfg.Mode) | unix.IFF_NO_PI | cfg.Flags}
	if queues > 1 || cfg.MultiQueue {
		d.flags |= unix.IFF_MULTI_QUEUE
	}
	if err := d.open(cfg, queues); err != nil {
		return nil, errors.Join(fmt.Errorf("open %v device %s: %w", cfg.Mode, cfg.Name, err), d.Close())
	}
	return d, nil
}

func (d *Device) open(cfg Config, queues int) error {
	name, err := d.attach(cfg.Name)
	if err != nil {
		return err
	}
	if d.Device, err = netdev.ByName(name); err != nil {
		return err
	}
	if err := d.Quieten(); err != nil {
		return err
	}
	// Before the other queues and before it is up: a queue's ring has
	// tx_queue_len slots when attached (drivers/net/tun.c: tun_attach), and
	// the default qdisc is chosen by it (net/sched/sch_generic.c:
	// attach_one_default_qdisc).
	if cfg.TxQueueLen != nil {
		if err := d.SetTxQueueLen(*cfg.TxQueueLen); err != nil {
			return err
		}
	}
	for len(d.fds) < queues {
		if _, err := d.AddQueue(); err != nil {
			return err
		}
	}
	if err := d.SetUp(true); err != nil {
		return err
	}
	if cfg.Qdisc.Kind == "" {
		return nil
	}
	return d.SetQdisc(cfg.Qdisc)
}

// Mode is TUN or TAP.
func (d *Device) Mode() Mode { return d.mode }

// Close removes the device, persistent or not, and closes its queues. A read
// that is blocked on a queue returns EFAULT (drivers/net/tun.c:
// tun_detach_all sets RCV_SHUTDOWN).
func (d *Device) Close() error {
	var errs []error
	// Removing it first is what wakes blocked readers: closing a descriptor
	// does not, and the device would live on as long as they block.
	if d.Device != nil {
		errs = append(errs, d.Remove())
	}
	for i := range d.fds {
		if err := d.CloseQueue(i); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
