package veth

import (
	"errors"
	"fmt"
	"net"
	"os"
	"unsafe"

	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// deferred is the consumer where NAPI of the far end has no threads, and runs in softirqs
// of the CPU that sends. To hold it up, it is told to put off its polls after one that
// has found packets (Documentation/networking/napi.rst: IRQ mitigation). The driver
// schedules none either, for it has masked its notifications. No CPU waits meanwhile. A
// socket that polls busily (SO_BUSY_POLL) lets it go on: two polls of one packet each
// run in the socket's system call, and then NAPI is scheduled, in a softirq of that CPU,
// if there is more.
type deferred struct {
	near, far *netdev.Device
	held      bool
	// timeout is gro_flush_timeout of the far end, open.
	timeout *os.File
	// busy is the socket; -1 while it has to be made anew, for NAPI has.
	busy int
	// ksoftirqd are wchan of the kernel's threads that take over long softirqs, by CPU.
	ksoftirqd map[int]*os.File
}

func newDeferred(near, far *netdev.Device) (_ *deferred, err error) {
	d := &deferred{near: near, far: far, busy: -1}
	if d.ksoftirqd, err = ksoftirqd(); err != nil {
		return nil, err
	}
	return d, d.find()
}

// ksoftirqd opens wchan of each.
func ksoftirqd() (map[int]*os.File, error) {
	found := make(map[int]*os.File)
	threads, err := kernelThreads("ksoftirqd/")
	if err != nil {
		return nil, err
	}
	for tid, name := range threads {
		var on int
		if _, err := fmt.Sscanf(name, "ksoftirqd/%d", &on); err != nil {
			return nil, fmt.Errorf("the thread %q has no CPU in its name: %w", name, err)
		}
		if found[on], err = os.Open(fmt.Sprintf("/proc/%d/wchan", tid)); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// find lets go on what was held up, if it is still there: where NAPI is another one,
// nothing has told it to put off its polls.
func (d *deferred) find() error {
	err := errors.Join(d.Hold(false), d.forget())
	dir := "/sys/class/net/" + d.far.Name() + "/"
	// One poll is put off, and each that finds packets puts off another.
	err = errors.Join(err, os.WriteFile(dir+"napi_defer_hard_irqs", []byte("1"), 0))
	if err == nil {
		d.timeout, err = os.OpenFile(dir+"gro_flush_timeout", os.O_WRONLY, 0)
	}
	if err != nil {
		return fmt.Errorf("have NAPI of %s put off its polls: %w", d.far.Name(), err)
	}
	return nil
}

// forget closes what belongs to NAPI as it was.
func (d *deferred) forget() error {
	err := d.forgetSocket()
	if d.timeout != nil {
		err = errors.Join(err, d.timeout.Close())
		d.timeout = nil
	}
	return err
}

// forGood is longer than any test runs, in nanoseconds.
const forGood = "600000000000"

func (d *deferred) putOff(on bool) error {
	value := "0"
	if on {
		value = forGood
	}
	if _, err := d.timeout.WriteAt([]byte(value), 0); err != nil {
		return fmt.Errorf("set gro_flush_timeout of %s to %s: %w", d.far.Name(), value, err)
	}
	return nil
}

func (d *deferred) holds() bool { return d.held }

// Hold says whether NAPI is held up: then it polls once more, and the rings fill.
func (d *deferred) Hold(on bool) error {
	if on == d.held {
		return nil
	}
	if on && d.busy < 0 {
		if err := d.listen(); err != nil {
			return err
		}
	}
	d.held = on
	if err := d.putOff(on); err != nil || on {
		return err
	}
	return d.kick()
}

// kick polls, in this thread, what was put off. It does no harm if nothing was.
func (d *deferred) kick() error {
	var buf [1]byte
	if n, _, err := unix.Recvfrom(d.busy, buf[:], unix.MSG_DONTWAIT); err != unix.EAGAIN && err != unix.EINTR {
		return fmt.Errorf("poll %s busily: a socket that nobody sends to has received %d bytes: %w", d.far.Name(), n, err)
	}
	return d.Settle()
}

// Settle waits until this CPU has no softirq left: the ones of other threads end with
// what these threads do.
func (d *deferred) Settle() error {
	on, err := currentCPU()
	if err != nil {
		return err
	}
	wchan := d.ksoftirqd[on]
	if wchan == nil {
		return fmt.Errorf("the kernel has no ksoftirqd/%d", on)
	}
	if !wait(func() bool { return sleeps(wchan) }) {
		return fmt.Errorf("ksoftirqd/%d has been running for %v", on, patience)
	}
	return nil
}

func currentCPU() (int, error) {
	var on uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&on)), 0, 0); errno != 0 {
		return 0, fmt.Errorf("getcpu: %w", errno)
	}
	return int(on), nil
}

// private packets of listen: so many that the ring has given back each slot that they
// have used (include/linux/ptr_ring.h: __ptr_ring_set_size, the batch of a ring of 256).
const private = 16

// listen opens a socket that knows NAPI of the far end: a UDP socket does when it has
// received a packet from it (include/net/busy_poll.h: sk_mark_napi_id). Packets are sent to it past the
// qdisc, and by their MAC address no socket of listen sees them.
func (d *deferred) listen() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("find NAPI of %s: %w", d.far.Name(), err), d.forgetSocket())
		}
	}()
	for _, end := range []*netdev.Device{d.near, d.far} {
		if up, err := end.IsUp(); err != nil || !up {
			return errors.Join(err, &driver.RefusedError{Why: end.Name() + " is down"})
		}
	}
	index := d.far.Ifindex()
	local := net.IPv4(198, 19, byte(index>>8), byte(index)).To4()
	on := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index, Name: d.far.Name()}}
	if err := netlink.AddrReplace(on, &netlink.Addr{IPNet: &net.IPNet{IP: local, Mask: net.CIDRMask(32, 32)}}); err != nil {
		return fmt.Errorf("give it the address %v: %w", local, err)
	}
	if d.busy, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open a UDP socket: %w", err)
	}
	address := &unix.SockaddrInet4{Port: busyPort}
	copy(address.Addr[:], local)
	if err := unix.Bind(d.busy, address); err != nil {
		return fmt.Errorf("bind a UDP socket: %w", err)
	}
	if err := d.greet(local); err != nil {
		return err
	}
	received := 0
	if !wait(func() bool {
		var buf [64]byte
		_, _, err := unix.Recvfrom(d.busy, buf[:], unix.MSG_DONTWAIT)
		if err == nil {
			received++
		}
		return received == private
	}) {
		return fmt.Errorf("of %d packets to a UDP socket at the far end %d have arrived in %v", private, received, patience)
	}
	const soIncomingNAPIID = 56 // include/uapi/asm-generic/socket.h
	id, err := unix.GetsockoptInt(d.busy, unix.SOL_SOCKET, soIncomingNAPIID)
	if err == nil && id == 0 {
		return &driver.RefusedError{Why: "the far end has no NAPI"}
	}
	if err == nil {
		err = unix.SetsockoptInt(d.busy, unix.SOL_SOCKET, unix.SO_BUSY_POLL, 1)
	}
	if err == nil {
		err = unix.SetsockoptInt(d.busy, unix.SOL_SOCKET, unix.SO_BUSY_POLL_BUDGET, 1)
	}
	if err != nil {
		return &kernelfeature.MissingError{Option: "CONFIG_NET_RX_BUSY_POLL (Linux 5.11)", What: "sockets that poll NAPI", Err: err}
	}
	return nil
}

func (d *deferred) forgetSocket() error {
	if d.busy < 0 {
		return nil
	}
	err := unix.Close(d.busy)
	d.busy = -1
	return err
}

// busyPort is below those of the tests' packets (internal/guest/traffic).
const busyPort = 9999

// greet sends the private packets.
func (d *deferred) greet(to net.IP) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return fmt.Errorf("set PACKET_QDISC_BYPASS: %w", err)
	}
	far, err := net.InterfaceByIndex(d.far.Ifindex())
	if err != nil {
		return err
	}
	const headers = 20 + 8
	frame := append(append(append([]byte{}, far.HardwareAddr...), far.HardwareAddr...), 0x08, 0x00)
	ip := []byte{0x45, 0, 0, headers, 0, 0, 0, 0, 64, 17, 0, 0, to[0], to[1], to[2], to[3] + 1, to[0], to[1], to[2], to[3]}
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	sum = sum>>16 + sum&0xffff
	sum = ^(sum>>16 + sum)
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	udp := []byte{busyPort >> 8, busyPort & 0xff, busyPort >> 8, busyPort & 0xff, 0, 8, 0, 0}
	frame = append(append(frame, ip...), udp...)
	for range private {
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: d.near.Ifindex()}); err != nil {
			return fmt.Errorf("send to a UDP socket at the far end: %w", err)
		}
	}
	return nil
}

// Pin and Park: NAPI runs where it is scheduled.
func (d *deferred) Pin(int) error  { return nil }
func (d *deferred) Park(int) error { return nil }

// Inline: what is put off is polled by the thread that lets it go on.
func (d *deferred) Inline() bool { return true }

// Hand: the first packet is polled, and puts off the next.
func (d *deferred) Hand() int { return 1 }

func (d *deferred) close() error {
	err := d.forget()
	for _, wchan := range d.ksoftirqd {
		err = errors.Join(err, wchan.Close())
	}
	return err
}
