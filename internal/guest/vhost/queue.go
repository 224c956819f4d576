package vhost

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

const path = "/dev/vhost-net"

// ownerTries is how often a signal may come at the wrong moment in a row.
const ownerTries = 100

// HeaderBytes is the size of the header in front of each packet
// (include/uapi/linux/virtio_net.h: struct virtio_net_hdr_mrg_rxbuf).
const HeaderBytes = 12

// Features that a Queue may ask for (include/uapi/linux/virtio_config.h,
// virtio_ring.h and virtio_net.h).
const (
	version1  = 1 << 32 // VIRTIO_F_VERSION_1
	eventIdx  = 1 << 29 // VIRTIO_RING_F_EVENT_IDX
	mergeable = 1 << 15 // VIRTIO_NET_F_MRG_RXBUF
)

// Config says what a virtual machine's network card would have negotiated. The
// zero value is a card without options.
type Config struct {
	// Mergeable: a packet may take several buffers, which are short so that
	// it often does. Else it needs one that holds it.
	Mergeable bool
	// EventIdx: calls and kicks are asked for by the index at which they are
	// wanted. Else by a flag.
	EventIdx bool
	// Polled: no calls are asked for; whoever reads has to look.
	Polled bool
	// Size is the number of descriptors, and of buffers; a power of two, at
	// least 2. 0 means 64.
	Size int
	// CPU to pin the worker to; nil pins it to none.
	CPU *int
}

// Bytes of a buffer.
const (
	wholeBytes     = 2048
	mergeableBytes = 128
)

// Queue is a receive virtqueue, with the worker that takes a tap queue's
// packets to it. The one who reads and offers buffers is one thread at a time;
// Flush is for any.
type Queue struct {
	cfg    Config
	fd     int // of /dev/vhost-net
	tap    int // the backend
	worker int // thread ID

	kick, call, err int // eventfds

	memory  []byte // two vrings, the buffers, and a page that is not there
	vrings  [2]vring
	vring   *vring // the one in use
	buffers []byte
	bytes   int    // of a buffer
	absent  uint64 // the address of that page

	free    []uint16 // descriptors that the worker does not have
	offered []bool   // by descriptor
	flags   uint16   // of avail
	avail   uint16   // the next index to offer at
	used    uint16   // the next index to read at
}

// Open begins to receive what is sent to a tap queue, of a device with
// IFF_VNET_HDR. Nothing arrives before buffers are offered. Close it when done,
// and before the device.
//
// A kernel without vhost-net is a *kernelfeature.MissingError.
func Open(tap int, cfg Config) (_ *Queue, err error) {
	if cfg.Size == 0 {
		cfg.Size = 64
	}
	q := &Queue{cfg: cfg, fd: -1, tap: tap, kick: -1, call: -1, err: -1, bytes: wholeBytes}
	if cfg.Mergeable {
		q.bytes = mergeableBytes
	}
	if err := q.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("receive by vhost-net: %w", err), q.Close())
	}
	return q, nil
}

func openVhost() (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return -1, &kernelfeature.MissingError{Option: "CONFIG_VHOST_NET", What: "vhost-net", Err: fmt.Errorf("open %s: %w", path, err)}
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// Available returns nil, or a *kernelfeature.MissingError from a kernel without
// vhost-net.
func Available() error {
	fd, err := openVhost()
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func (q *Queue) open() (err error) {
	if err := q.prepareTap(); err != nil {
		return err
	}
	if q.fd, err = openVhost(); err != nil {
		return err
	}
	for _, event := range []*int{&q.kick, &q.call, &q.err} {
		if *event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return fmt.Errorf("eventfd: %w", err)
		}
	}
	if err := q.layOut(); err != nil {
		return err
	}
	q.worker, err = ownerOf(func() error {
		err := ioctl[byte](q.fd, setOwner, "VHOST_SET_OWNER", nil)
		// A thread to which a signal has been sent makes no other (kernel/fork.c:
		// copy_process), which vhost takes for want of memory (drivers/vhost/
		// vhost.c: vhost_worker_create). Go's scheduler sends some all the time.
		for tries := 0; errors.Is(err, unix.ENOMEM) && tries < ownerTries; tries++ {
			err = ioctl[byte](q.fd, setOwner, "VHOST_SET_OWNER", nil)
		}
		return err
	})
	if err != nil {
		return err
	}
	if q.cfg.CPU != nil {
		if err := q.Pin(*q.cfg.CPU); err != nil {
			return err
		}
	}
	if err := q.negotiate(); err != nil {
		return err
	}
	table := &memTable{regions: 1, physical: address(&q.memory[0]), size: uint64(len(q.memory)), virtual: address(&q.memory[0])}
	if err := ioctl(q.fd, setMemTable, "VHOST_SET_MEM_TABLE", table); err != nil {
		return err
	}
	if err := q.place(0); err != nil {
		return err
	}
	for _, set := range []struct {
		request uint
		name    string
		event   int
	}{
		{setVringKick, "VHOST_SET_VRING_KICK", q.kick},
		{setVringCall, "VHOST_SET_VRING_CALL", q.call},
		{setVringErr, "VHOST_SET_VRING_ERR", q.err},
	} {
		if err := ioctl(q.fd, set.request, set.name, &vringFile{receiveQueue, int32(set.event)}); err != nil {
			return err
		}
	}
	return q.Start()
}

// prepareTap makes the device's header as long as the virtqueue's.
func (q *Queue) prepareTap() error {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(q.tap, unix.TUNGETIFF, ifr); err != nil {
		return fmt.Errorf("TUNGETIFF: %w", err)
	}
	if ifr.Uint16()&unix.IFF_VNET_HDR == 0 {
		return fmt.Errorf("%s has no IFF_VNET_HDR", ifr.Name())
	}
	if err := unix.IoctlSetPointerInt(q.tap, unix.TUNSETVNETHDRSZ, HeaderBytes); err != nil {
		return fmt.Errorf("TUNSETVNETHDRSZ %d: %w", HeaderBytes, err)
	}
	return nil
}

// layOut maps the memory that the worker writes to: outside of Go's heap, which
// may move and is not aligned.
func (q *Queue) layOut() (err error) {
	page := unix.Getpagesize()
	ring := (vringBytes(q.cfg.Size) + 63) &^ 63
	there := (2*ring + q.cfg.Size*q.bytes + page - 1) &^ (page - 1)
	q.memory, err = unix.Mmap(-1, 0, there+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map memory for a virtqueue: %w", err)
	}
	if err := unix.Mprotect(q.memory[there:], unix.PROT_NONE); err != nil {
		return fmt.Errorf("map memory for a virtqueue: %w", err)
	}
	q.absent = address(&q.memory[there])
	for i := range q.vrings {
		q.vrings[i] = newVring(q.memory[i*ring:], q.cfg.Size)
	}
	q.vring = &q.vrings[0]
	q.buffers = q.memory[2*ring:]
	q.offered = make([]bool, q.cfg.Size)
	for id := range q.cfg.Size {
		q.free = append(q.free, uint16(id))
	}
	return nil
}

func (q *Queue) negotiate() error {
	var offers uint64
	if err := ioctl(q.fd, getFeatures, "VHOST_GET_FEATURES", &offers); err != nil {
		return err
	}
	features := uint64(version1)
	if q.cfg.Mergeable {
		features |= mergeable
	}
	if q.cfg.EventIdx {
		features |= eventIdx
	}
	if lacks := features &^ offers; lacks != 0 {
		return fmt.Errorf("vhost-net offers the features %#x, which lack %#x", offers, lacks)
	}
	return ioctl(q.fd, setFeatures, "VHOST_SET_FEATURES", &features)
}

// place tells the worker where the vring is and at which index it begins.
func (q *Queue) place(base uint16) error {
	if err := ioctl(q.fd, setVringNum, "VHOST_SET_VRING_NUM", &vringState{receiveQueue, uint32(q.cfg.Size)}); err != nil {
		return err
	}
	if err := ioctl(q.fd, setVringBase, "VHOST_SET_VRING_BASE", &vringState{receiveQueue, uint32(base)}); err != nil {
		return err
	}
	return ioctl(q.fd, setVringAddr, "VHOST_SET_VRING_ADDR", &vringAddr{
		index: receiveQueue, desc: address(&q.vring.desc[0]), used: address(q.vring.used), avail: address(q.vring.avail),
	})
}

// Start makes the worker take packets from the tap queue: it sets the backend.
// Open has done so.
func (q *Queue) Start() error {
	return ioctl(q.fd, setBackend, "VHOST_NET_SET_BACKEND", &vringFile{receiveQueue, int32(q.tap)})
}

// Stop unsets the backend. The worker takes no more packets, what it has in
// hand goes back into the ring, as far as there is room (drivers/vhost/net.c:
// vhost_net_buf_unproduce), and all buffers that it has not used are free.
func (q *Queue) Stop() error {
	if err := ioctl(q.fd, setBackend, "VHOST_NET_SET_BACKEND", &vringFile{receiveQueue, -1}); err != nil {
		return err
	}
	state := &vringState{index: receiveQueue}
	if err := ioctl(q.fd, getVringBase, "VHOST_GET_VRING_BASE", state); err != nil {
		return err
	}
	for at := uint16(state.num); at != q.avail; at++ {
		id := q.vring.heads[int(at)%q.cfg.Size]
		q.offered[id] = false
		q.free = append(q.free, id)
	}
	q.avail = uint16(state.num)
	setHalves(q.vring.avail, q.flags, q.avail)
	// Else the worker remembers the index that was there.
	return ioctl(q.fd, setVringBase, "VHOST_SET_VRING_BASE", state)
}

// Replace makes another vring of the virtqueue, one that begins so near the end
// of the indexes that they soon start again from 0. The backend must be unset,
// and all that has arrived been read.
func (q *Queue) Replace() error {
	const base = 1<<16 - 3
	other := &q.vrings[0]
	if q.vring == other {
		other = &q.vrings[1]
	}
	setHalves(other.avail, q.flags, base)
	setHalves(other.used, 0, base)
	q.vring, q.avail, q.used = other, base, base
	return q.place(base)
}

// Retarget makes another tap queue the backend that Start sets.
func (q *Queue) Retarget(tap int) error {
	q.tap = tap
	return q.prepareTap()
}

// Pin keeps the worker on a CPU.
func (q *Queue) Pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(q.worker, &set); err != nil {
		return fmt.Errorf("pin the worker of vhost-net to CPU %d: %w", cpu, err)
	}
	return nil
}

// Worker is the thread ID of the worker: in this process or, before Linux 6.4,
// a kernel thread.
func (q *Queue) Worker() int { return q.worker }

// Polled is whether no calls are asked for.
func (q *Queue) Polled() bool { return q.cfg.Polled }

// Call is an eventfd to wait on, when AskForCall has returned true.
func (q *Queue) Call() int { return q.call }

// Close ends the worker. What it has in hand goes back into the ring.
func (q *Queue) Close() error {
	var errs []error
	for _, fd := range []*int{&q.fd, &q.kick, &q.call, &q.err} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	if q.memory != nil {
		errs = append(errs, unix.Munmap(q.memory))
		q.memory = nil
	}
	return errors.Join(errs...)
}

// Settle returns when the worker has done all that it was woken for before. To
// set no log where there is none changes nothing and waits for that
// (drivers/vhost/net.c: vhost_net_ioctl).
func (q *Queue) Settle() error {
	none := int32(-1)
	return ioctl(q.fd, setLogFD, "VHOST_SET_LOG_FD", &none)
}

// Errors is how often the worker has complained about the virtqueue since this
// was last called (drivers/vhost/vhost.h: vq_err).
func (q *Queue) Errors() uint64 {
	var count [8]byte
	if _, err := unix.Read(q.err, count[:]); err != nil {
		return 0
	}
	return binary.NativeEndian.Uint64(count[:])
}
