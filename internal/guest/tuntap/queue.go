package tuntap

import (
	"errors"
	"fmt"

	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

const tunPath = "/dev/net/tun"

func openTun() (int, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return -1, &kernelfeature.MissingError{Option: "CONFIG_TUN", What: "tun and tap devices", Err: fmt.Errorf("open %s: %w", tunPath, err)}
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", tunPath, err)
	}
	return fd, nil
}

// Features returns the TUNSETIFF flags that the driver knows.
func Features() (uint32, error) {
	fd, err := openTun()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	features, err := unix.IoctlGetUint32(fd, unix.TUNGETFEATURES)
	if err != nil {
		return 0, fmt.Errorf("TUNGETFEATURES: %w", err)
	}
	return features, nil
}

// AddQueue attaches one more queue and returns its number.
func (d *Device) AddQueue() (int, error) {
	_, err := d.attach(d.Name())
	return len(d.fds) - 1, err
}

// attach opens a queue of the device of that name, and returns the name, which
// the kernel chooses if there is none.
func (d *Device) attach(name string) (string, error) {
	fd, err := openTun()
	if err != nil {
		return "", err
	}
	given, err := setIff(fd, name, d.flags)
	if err != nil {
		unix.Close(fd)
		return "", fmt.Errorf("attach queue %d to %q, flags %#x: TUNSETIFF: %w", len(d.fds), name, d.flags, err)
	}
	d.fds = append(d.fds, fd)
	return given, nil
}

// Switch turns TUNSETIFF flags on or off for queues that are added later.
func (d *Device) Switch(flags uint16) { d.flags ^= flags }

func setIff(fd int, name string, flags uint16) (string, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return "", err
	}
	return ifr.Name(), nil
}

// Queues returns the file descriptors of the queues in the order in which
// they were attached, -1 for each that was closed. They are non-blocking and
// belong to the device. The order is the txq's, as long as no queue has been
// detached or closed (drivers/net/tun.c: __tun_detach moves the last queue
// into the gap).
func (d *Device) Queues() []int { return append([]int(nil), d.fds...) }

// CloseQueue closes the descriptor of queue i. The device goes with its last
// queue unless it is persistent.
func (d *Device) CloseQueue(i int) error {
	fd := d.fds[i]
	if fd < 0 {
		return nil
	}
	d.fds[i] = -1
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close queue %d of %s: %w", i, d.Name(), err)
	}
	return nil
}

// Detach takes queue i from the device but keeps it open; what its ring holds
// is freed (drivers/net/tun.c: tun_queue_purge).
func (d *Device) Detach(i int) error { return d.setQueue(i, unix.IFF_DETACH_QUEUE, "detach") }

// Attach gives the detached queue i back to the device, as its last txq.
func (d *Device) Attach(i int) error { return d.setQueue(i, unix.IFF_ATTACH_QUEUE, "attach") }

func (d *Device) setQueue(i int, flag uint16, verb string) error {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	ifr.SetUint16(flag)
	if err := unix.IoctlIfreq(d.fds[i], unix.TUNSETQUEUE, ifr); err != nil {
		return fmt.Errorf("%s queue %d of %s: TUNSETQUEUE: %w", verb, i, d.Name(), err)
	}
	return nil
}

// SetFilter gives each packet that is sent through the device to an eBPF socket
// filter, which returns how much of it is kept (drivers/net/tun.c:
// run_ebpf_filter). The device keeps the program.
func (d *Device) SetFilter(program int) error {
	for _, fd := range d.fds {
		if fd < 0 {
			continue
		}
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETFILTEREBPF, program); err != nil {
			return fmt.Errorf("attach a filter to %s: TUNSETFILTEREBPF: %w", d.Name(), err)
		}
		return nil
	}
	return fmt.Errorf("attach a filter to %s: all its queues are closed", d.Name())
}

// SetSteering gives each packet that is sent through the device to an eBPF
// socket filter, which returns its txq (drivers/net/tun.c:
// tun_ebpf_select_queue). The device keeps the program.
func (d *Device) SetSteering(program int) error {
	for _, fd := range d.fds {
		if fd < 0 {
			continue
		}
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETSTEERINGEBPF, program); err != nil {
			return fmt.Errorf("steer the packets of %s: TUNSETSTEERINGEBPF: %w", d.Name(), err)
		}
		return nil
	}
	return fmt.Errorf("steer the packets of %s: all its queues are closed", d.Name())
}

// SetPersist says whether the device outlives its queues. Close removes it in
// any case.
func (d *Device) SetPersist(on bool) error {
	value := 0
	if on {
		value = 1
	}
	for _, fd := range d.fds {
		if fd < 0 {
			continue
		}
		if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, value); err != nil {
			return fmt.Errorf("make %s persistent: TUNSETPERSIST %d: %w", d.Name(), value, err)
		}
		return nil
	}
	return fmt.Errorf("make %s persistent: all its queues are closed", d.Name())
}
