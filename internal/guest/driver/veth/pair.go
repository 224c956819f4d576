package veth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// slots is the size of a ring (drivers/net/veth.c: VETH_RING_SIZE).
const slots = 256

// pairs counts those that were made, to name them. A name is short, for that of a
// kernel thread has the device's in it and is cut.
var pairs atomic.Uint32

// pair is two devices: what the near one sends, the far one receives.
type pair struct {
	near, far *netdev.Device
	// away is where the far end is if it is not in this network namespace.
	away *netdev.Namespace
	gro  bool // of the far end
	// program is an XDP program of the far end; nil is none.
	program  *ebpf.Program
	attached link.Link
}

// newPair makes a pair with so many txqs at the near end, and so many receive queues at
// the far end. Both ends are down and quiet.
func newPair(txqs, rxqs int, txQueueLen *int) (_ *pair, err error) {
	n := pairs.Add(1)
	near, far := fmt.Sprintf("va%d", n), fmt.Sprintf("vb%d", n)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumTxQueues, attrs.NumRxQueues = near, txqs, txqs
	if txQueueLen != nil {
		attrs.TxQLen = *txQueueLen
	}
	made := netlink.NewVeth(attrs)
	made.PeerName, made.PeerNumTxQueues, made.PeerNumRxQueues = far, uint32(rxqs), uint32(rxqs)
	if err := netlink.LinkAdd(made); errors.Is(err, unix.EOPNOTSUPP) {
		return nil, &kernelfeature.MissingError{Option: "CONFIG_VETH", What: "veth devices", Err: err}
	} else if err != nil {
		return nil, fmt.Errorf("make the veth pair %s and %s: %w", near, far, err)
	}
	p := &pair{}
	if p.near, err = netdev.ByName(near); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.far, err = netdev.ByName(far); err != nil {
		return nil, err
	}
	// With TSO at the near end, packets pass by the ring (drivers/net/veth.c:
	// veth_skb_is_eligible_for_gro).
	if err := setFeature(near, ethtoolSTSO, false); err != nil {
		return nil, err
	}
	return p, errors.Join(p.near.Quieten(), p.far.Quieten())
}

// up brings both ends up.
func (p *pair) up() error {
	if err := errors.Join(p.near.SetUp(true), p.setFarUp(true)); err != nil {
		return err
	}
	return p.near.AwaitCarrier()
}

// there does something where the far end is.
func (p *pair) there(do func() error) error {
	if p.away == nil {
		return do()
	}
	return p.away.Do(do)
}

// moveAway has the far end be in a network namespace of its own, with all that it was
// made to, but down.
func (p *pair) moveAway() (err error) {
	if p.away, err = netdev.NewNamespace(); err != nil {
		return err
	}
	return errors.Join(p.far.MoveTo(p.away), p.there(p.far.Quieten))
}

// setFarUp takes the far end up or down.
func (p *pair) setFarUp(up bool) error {
	return p.there(func() error { return p.far.SetUp(up) })
}

// close removes both ends.
func (p *pair) close() error {
	err := errors.Join(p.detach(), p.near.Remove())
	if p.away != nil {
		err = errors.Join(err, p.away.Close())
	}
	return err
}

// setGRO switches GRO of the far end, and with it NAPI if it has no XDP program.
func (p *pair) setGRO(on bool) error {
	err := setFeature(p.far.Name(), ethtoolSGRO, on)
	if err == nil {
		p.gro = on
	}
	return err
}

// setThreaded says whether the device's NAPI has threads.
func setThreaded(name string, on bool) error {
	text := "0"
	if on {
		text = "1"
	}
	err := os.WriteFile("/sys/class/net/"+name+"/threaded", []byte(text), 0)
	// net/core/net-sysfs.c: modify_napi_threaded.
	if errors.Is(err, unix.EOPNOTSUPP) {
		return &driver.RefusedError{Why: "the device has no NAPI"}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &kernelfeature.MissingError{Option: "Linux 5.12", What: "threads for NAPI", Err: err}
	}
	if err != nil {
		return fmt.Errorf("have NAPI of %s threaded: %w", name, err)
	}
	return nil
}

// Commands of SIOCETHTOOL (include/uapi/linux/ethtool.h).
const (
	ethtoolSTSO      = 0x1f
	ethtoolSGRO      = 0x2c
	ethtoolGChannels = 0x3c
	ethtoolSChannels = 0x3d
)

// ethtool asks the driver of a device for something.
func ethtool(name string, request unsafe.Pointer) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: request}
	copy(ifr.name[:], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return errno
	}
	return nil
}

func setFeature(name string, command uint32, on bool) error {
	request := struct{ command, data uint32 }{command: command}
	if on {
		request.data = 1
	}
	if err := ethtool(name, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("SIOCETHTOOL %#x of %s, %v: %w", command, name, on, err)
	}
	return nil
}

// setChannels changes how many queues of each direction a device uses (ethtool -L).
func setChannels(name string, rx, tx int) error {
	var request struct {
		command                                uint32
		maxRx, maxTx, maxOther, maxCombined    uint32
		rxCount, txCount, other, combinedCount uint32
	}
	request.command = ethtoolGChannels
	if err := ethtool(name, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("ask for the channels of %s: %w", name, err)
	}
	request.command, request.rxCount, request.txCount = ethtoolSChannels, uint32(rx), uint32(tx)
	if err := ethtool(name, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("set the channels of %s to rx %d tx %d: %w", name, rx, tx, err)
	}
	return nil
}
