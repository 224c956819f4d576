// Package netdev changes and reads network devices of any driver: their link,
// their qdiscs, their counters and their network namespace.
package netdev

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Device is a network device in the network namespace of the calling thread.
type Device struct {
	name  string
	index int
	// major is the last qdisc handle used: see SetQdisc.
	major uint16
}

// ByName finds the device of that name.
func ByName(name string) (*Device, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find network device %s: %w", name, err)
	}
	return &Device{name: name, index: link.Attrs().Index}, nil
}

// Name is the interface's name, as Rename left it.
func (d *Device) Name() string { return d.name }

// Ifindex is the interface's index.
func (d *Device) Ifindex() int { return d.index }

// link is what the netlink library needs to know to address the device.
func (d *Device) link() netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: d.index, Name: d.name}}
}

// Remove removes the device, persistent or not. That it is gone already is no
// error.
func (d *Device) Remove() error {
	if err := netlink.LinkDel(d.link()); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", d.name, err)
	}
	return nil
}

// TxQueues is how many txqs the device has (net/core/net-sysfs.c: one directory
// for each of real_num_tx_queues).
func (d *Device) TxQueues() (int, error) {
	dirs, err := filepath.Glob("/sys/class/net/" + d.name + "/queues/tx-*")
	if err == nil && len(dirs) == 0 {
		err = errors.New("sysfs shows none")
	}
	if err != nil {
		return 0, fmt.Errorf("count the txqs of %s: %w", d.name, err)
	}
	return len(dirs), nil
}

// Quieten keeps the kernel from sending anything of its own: router and
// neighbour solicitations, multicast reports, ARP.
func (d *Device) Quieten() error {
	path := "/proc/sys/net/ipv6/conf/" + d.name + "/disable_ipv6"
	// A kernel without IPv6 has no such file and needs none.
	if err := os.WriteFile(path, []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("switch IPv6 off: %w", err)
	}
	if err := netlink.LinkSetARPOff(d.link()); err != nil {
		return fmt.Errorf("switch ARP off: %w", err)
	}
	if err := netlink.LinkSetMulticastOff(d.link()); err != nil {
		return fmt.Errorf("switch multicast off: %w", err)
	}
	return nil
}

// SetUp brings the device up or down.
func (d *Device) SetUp(up bool) error {
	set, state := netlink.LinkSetDown, "down"
	if up {
		set, state = netlink.LinkSetUp, "up"
	}
	if err := set(d.link()); err != nil {
		return fmt.Errorf("set %s %s: %w", d.name, state, err)
	}
	return nil
}

// IsUp says whether the device is up.
func (d *Device) IsUp() (bool, error) {
	link, err := netlink.LinkByIndex(d.index)
	if err != nil {
		return false, fmt.Errorf("see whether %s is up: %w", d.name, err)
	}
	return link.Attrs().Flags&net.FlagUp != 0, nil
}

// AwaitCarrier waits until the kernel has noticed that a device which is up has
// its first queue again. It does so in a workqueue (net/core/link_watch.c:
// linkwatch_do_dev), and if it has noticed before that the last one was gone,
// the qdisc is noop_qdisc until then, which drops.
func (d *Device) AwaitCarrier() error {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		link, err := netlink.LinkByIndex(d.index)
		if err != nil {
			return fmt.Errorf("look for the carrier of %s: %w", d.name, err)
		}
		if link.Attrs().OperState != netlink.OperDown {
			return nil
		}
		if time.Since(began) > 5*time.Second {
			return fmt.Errorf("%s is up and has a queue, but has no carrier after 5s", d.name)
		}
	}
}

// SetTxQueueLen changes the limit of the qdiscs that take theirs from it, and the
// ring of drivers that do, such as tun's: what no longer fits into that is freed
// (include/linux/ptr_ring.h: __ptr_ring_swap_queue).
func (d *Device) SetTxQueueLen(packets int) error {
	if err := netlink.LinkSetTxQLen(d.link(), packets); err != nil {
		return fmt.Errorf("set tx_queue_len of %s to %d: %w", d.name, packets, err)
	}
	return nil
}

// SetMTU changes the MTU.
func (d *Device) SetMTU(bytes int) error {
	if err := netlink.LinkSetMTU(d.link(), bytes); err != nil {
		return fmt.Errorf("set the MTU of %s to %d: %w", d.name, bytes, err)
	}
	return nil
}

// Rename changes the interface's name.
func (d *Device) Rename(name string) error {
	if err := netlink.LinkSetName(d.link(), name); err != nil {
		return fmt.Errorf("rename %s to %s: %w", d.name, name, err)
	}
	d.name = name
	return nil
}

// MoveTo moves the device to another network namespace. All but its name and its index
// has to be looked at from there. It is down.
func (d *Device) MoveTo(n *Namespace) error {
	if err := netlink.LinkSetNsFd(d.link(), int(n.handle)); err != nil {
		return fmt.Errorf("move %s to another network namespace: %w", d.name, err)
	}
	return nil
}

// MoveThroughNamespace moves the device to another network namespace and back,
// which takes it down, and its qdisc with it (net/core/dev.c:
// __dev_change_net_namespace).
func (d *Device) MoveThroughNamespace() error {
	home, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open this network namespace: %w", err)
	}
	defer home.Close()
	other, err := NewNamespace()
	if err != nil {
		return err
	}
	defer other.Close()
	if err := d.MoveTo(other); err != nil {
		return err
	}
	there, err := netlink.NewHandleAt(other.handle, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open the other network namespace: %w", err)
	}
	defer there.Close()
	link, err := there.LinkByName(d.name)
	if err == nil {
		err = there.LinkSetNsFd(link, int(home))
	}
	if err != nil {
		return fmt.Errorf("move %s back: %w", d.name, err)
	}
	if link, err = netlink.LinkByName(d.name); err != nil {
		return fmt.Errorf("find %s again: %w", d.name, err)
	}
	if index := link.Attrs().Index; index != d.index {
		return fmt.Errorf("%s came back as interface %d and had been %d", d.name, index, d.index)
	}
	return d.Quieten()
}

// Stats are the device's own counters.
type Stats struct {
	// TxPackets is the driver's to count: tun counts what readers took
	// (drivers/net/tun.c: tun_put_user), not what it queued.
	TxPackets, TxBytes, TxErrors uint64
	// TxDropped counts what the driver freed, and also what the stack freed
	// on its behalf (include/linux/netdevice.h: dev_core_stats_tx_dropped_inc).
	TxDropped uint64
	// RxDropped counts what was received, and freed.
	RxDropped uint64
}

// Stats reads the device's counters.
func (d *Device) Stats() (Stats, error) {
	link, err := netlink.LinkByIndex(d.index)
	if err != nil {
		return Stats{}, fmt.Errorf("read the counters of %s: %w", d.name, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		return Stats{}, fmt.Errorf("read the counters of %s: the kernel sent none", d.name)
	}
	return Stats{TxPackets: s.TxPackets, TxBytes: s.TxBytes, TxErrors: s.TxErrors, TxDropped: s.TxDropped, RxDropped: s.RxDropped}, nil
}
