// Package macvtap is the driver under test of macvtap devices (drivers/net/tap.c,
// drivers/net/macvtap.c), with each what a veth pair brings: the device that is sent
// through is the pair's near end, and what arrives at the far end goes into the ring of a
// macvtap queue, which read(2) empties. There is no device for schedules and sequences of
// faults yet.
package macvtap

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Driver is macvtap.
var Driver = &driver.Driver{
	Name: "macvtap",
	// Nothing stops what sends to a ring that is full (drivers/net/tap.c:
	// tap_handle_frame).
	Contract:    func() (contract.Contract, error) { return contract.Stock, nil },
	TxQueueLens: []int{1, 16, 500},
	Modes:       []driver.Mode{{Name: "macvtap"}},
	Make:        makeDevice,
	Paths: map[string]driver.Path{
		"tap_handle_frame":   driver.DriverCounts,
		"__ptr_ring_cleanup": driver.Uncounted,
		"tap_sock_destruct":  driver.Uncounted,
		// The sender is told (drivers/net/veth.c: veth_xmit).
		"enqueue_to_backlog": driver.DriverCounts,
		"netif_rx_internal":  driver.DriverCounts,
	},
	DefaultQdisc: netdev.Noqueue, // drivers/net/veth.c: veth_setup, IFF_NO_QUEUE
	Readers:      []string{"tap_do_read"},
}

// made is a pair with a macvtap device at its far end.
type made struct {
	near, tap *netdev.Device
	queues    []int
}

// numbers tell the devices apart.
var numbers atomic.Uint32

func makeDevice(shape driver.Shape) (_ driver.Made, err error) {
	n := numbers.Add(1)
	near, far, name := fmt.Sprintf("ma%d", n), fmt.Sprintf("mb%d", n), fmt.Sprintf("mt%d", n)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = near
	pair := netlink.NewVeth(attrs)
	pair.PeerName = far
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, missing("CONFIG_VETH", "veth devices", err)
	}
	m := &made{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.near, err = netdev.ByName(near); err != nil {
		return nil, err
	}
	lower, err := netdev.ByName(far)
	if err != nil {
		return nil, err
	}
	attrs = netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.TxQLen = name, lower.Ifindex(), shape.TxQueueLen
	// It takes whatever arrives.
	above := &netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PASSTHRU}}
	if err := netlink.LinkAdd(above); err != nil {
		return nil, missing("CONFIG_MACVTAP", "macvtap devices", err)
	}
	if m.tap, err = netdev.ByName(name); err != nil {
		return nil, err
	}
	for range max(shape.TxQueues, 1) {
		fd, err := open(m.tap.Ifindex())
		if err != nil {
			return nil, fmt.Errorf("open a queue of %s: %w", name, err)
		}
		m.queues = append(m.queues, fd)
	}
	if err := receiveOnOneCPU(far); err != nil {
		return nil, err
	}
	for _, dev := range []*netdev.Device{m.near, lower, m.tap} {
		if err := errors.Join(dev.Quieten(), dev.SetUp(true)); err != nil {
			return nil, err
		}
	}
	if err := m.near.AwaitCarrier(); err != nil || shape.Qdisc.Kind == "" {
		return m, err
	}
	return m, m.near.SetQdisc(shape.Qdisc)
}

// missing says that the kernel lacks it, if that is what the error means.
func missing(option, what string, err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return &kernelfeature.MissingError{Option: option, What: what, Err: err}
	}
	return fmt.Errorf("make %s: %w", what, err)
}

// receiveOnOneCPU has one CPU receive all that comes to the device. Else each CPU that
// sends has a backlog of its own, and of packets that two CPUs have sent one after the other
// the second may arrive first (net/core/dev.c: netif_rx_internal). The one backlog holds
// more than any test sends: what it had no room for would not be the ring's loss.
func receiveOnOneCPU(name string) error {
	const first, most = "1", "10000000" // a mask of CPUs; packets
	rps := "/sys/class/net/" + name + "/queues/rx-0/rps_cpus"
	err := os.WriteFile(rps, []byte(first), 0)
	if errors.Is(err, os.ErrNotExist) {
		return &kernelfeature.MissingError{Option: "CONFIG_RPS", What: "one CPU that receives all packets of a device", Err: err}
	}
	if err == nil {
		err = os.WriteFile("/proc/sys/net/core/netdev_max_backlog", []byte(most), 0)
	}
	if err != nil {
		return fmt.Errorf("have one CPU receive what comes to %s: %w", name, err)
	}
	return nil
}

// open opens a queue without a virtio_net_hdr.
func open(ifindex int) (int, error) {
	// drivers/net/macvtap.c: macvtap_device_event.
	fd, err := unix.Open(fmt.Sprintf("/dev/tap%d", ifindex), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return -1, &kernelfeature.MissingError{Option: "CONFIG_DEVTMPFS", What: "the device file of a macvtap device", Err: err}
	}
	if err != nil {
		return -1, err
	}
	ifr, err := unix.NewIfreq("")
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("TUNSETIFF: %w", err), unix.Close(fd))
	}
	return fd, nil
}

func (m *made) Link() *netdev.Device { return m.near }

// Counters: what found the ring full counts as received by the macvtap device, and
// dropped (drivers/net/macvtap.c: macvtap_count_rx_dropped).
func (m *made) Counters() driver.Counters { return counters{m.near, m.tap} }

type counters struct {
	*netdev.Device // that is sent through
	tap            *netdev.Device
}

func (c counters) Stats() (netdev.Stats, error) {
	stats, err := c.Device.Stats()
	if err != nil {
		return stats, err
	}
	received, err := c.tap.Stats()
	stats.TxDropped += received.RxDropped
	return stats, err
}

func (m *made) Far() int { return m.tap.Ifindex() }

func (m *made) Queues() []int { return m.queues }

// Taker: who reads a queue takes packets from its ring.
func (m *made) Taker() traffic.Taker { return nil }

// Settle: on its way to the ring a packet waits in the backlog of a CPU.
func (m *made) Settle() error { return netdev.SettleBacklog() }

func (m *made) Revivals() []driver.Revival {
	return []driver.Revival{{Name: "link down and up", Do: func() error {
		return errors.Join(m.near.SetUp(false), m.near.SetUp(true))
	}}}
}

func (m *made) Close() error {
	var errs []error
	for _, fd := range m.queues {
		errs = append(errs, unix.Close(fd))
	}
	if m.near == nil {
		return errors.Join(errs...)
	}
	// With the far end macvtap goes, too.
	return errors.Join(append(errs, m.near.Remove())...)
}
