package tun

import (
	"errors"
	"fmt"

	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sys/unix"
)

// Those that Undo needs.
var (
	attachTheQueue = &driver.Fault{Name: "attach the queue", Do: func(b driver.Bench, _ int) error { return of(b).attach() }}
	setTxQueueLen  = &driver.Fault{Name: "set tx_queue_len to", Arguments: []int{0, 1, 2, 16, 500}, Do: func(b driver.Bench, n int) error {
		return of(b).resize(n)
	}}
)

func faults(consumer driver.Consumer) []*driver.Fault {
	all := []*driver.Fault{
		{Name: "read into a bad buffer", Arguments: []int{1, 100}, Do: func(b driver.Bench, n int) error { return of(b).readBad(b, n) }},
		{Name: "read into a buffer that is too short", Do: func(b driver.Bench, _ int) error { return of(b).readShort() }},
		{Name: "detach the queue", Do: func(b driver.Bench, _ int) error { return of(b).detach() }},
		attachTheQueue,
		{Name: "close the queue of a persistent device, and open it again", Do: func(b driver.Bench, _ int) error { return of(b).reopen(b) }},
		{Name: "close the queue of a persistent device, and open it again with IFF_BACKPRESSURE switched", OptIn: true, Do: func(b driver.Bench, _ int) error { return of(b).switchover(b) }},
		setTxQueueLen,
		{Name: "set tx_queue_len to 16, with an allocation that fails: the", Failing: true, Do: func(b driver.Bench, _ int) error { return of(b).resize(16) }},
		{Name: "attach the queue, with an allocation that fails: the", Failing: true, Do: func(b driver.Bench, _ int) error { return of(b).attach() }},
	}
	if consumer == Vhost {
		all = append(all, workerFaults()...)
	}
	return all
}

// Undo attaches the queue, gives the ring a slot, and makes the worker work.
func (d *device) Undo(b driver.Bench) (undo []driver.Step) {
	if !d.attached {
		undo = append(undo, driver.Step{Fault: attachTheQueue})
	}
	if d.slots == 0 {
		undo = append(undo, driver.Step{Fault: setTxQueueLen, N: 2})
	}
	if d.worker == nil {
		return undo
	}
	if !b.Plugged() {
		undo = append(undo, driver.Step{Fault: setTheBackend})
	}
	if d.worker.flawed {
		undo = append(undo, driver.Step{Fault: replaceTheVirtqueue})
	}
	if d.worker.unkicked {
		undo = append(undo, driver.Step{Fault: kickTheWorker})
	}
	return undo
}

func (d *device) attach() error {
	if d.attached {
		return nil
	}
	err := d.Attach(d.queue)
	d.attached = err == nil
	return err
}

func (d *device) detach() error {
	if !d.attached {
		return nil
	}
	d.attached = false
	return d.Detach(d.queue)
}

// reopen makes the device persistent, closes its queue, and opens another.
func (d *device) reopen(b driver.Bench) error {
	return d.whileUnset(b, func() error {
		if err := d.SetPersist(true); err != nil {
			return err
		}
		if err := d.CloseQueue(d.queue); err != nil {
			return err
		}
		queue, err := d.AddQueue()
		if err != nil {
			return err
		}
		d.queue, d.attached = queue, true
		if d.worker == nil {
			return nil
		}
		return d.worker.Retarget(d.fd())
	})
}

// switchover turns IFF_BACKPRESSURE on or off, which only a queue that is the
// first one to be opened does (drivers/net/tun.c: tun_set_iff).
func (d *device) switchover(b driver.Bench) error {
	d.backpressure = !d.backpressure
	d.Switch(tuntap.IFFBackpressure)
	return d.reopen(b)
}

// readBad reads into memory that is not there. The driver has taken the packet
// from the ring by then, and frees it.
func (d *device) readBad(b driver.Bench, packets int) error {
	for range packets {
		switch _, _, errno := unix.Syscall(unix.SYS_READ, uintptr(d.fd()), 8, 2048); errno {
		case unix.EFAULT:
			b.Consumed(1)
		case unix.EAGAIN, unix.EBADFD:
			return nil
		case 0:
			return errors.New("read into a bad buffer: it succeeded")
		default:
			return fmt.Errorf("read into a bad buffer: %w, want EFAULT", errno)
		}
	}
	return nil
}

// readShort reads less than a packet, and throws it away.
func (d *device) readShort() error {
	var buf [20]byte
	_, err := unix.Read(d.fd(), buf[:])
	switch {
	case err == nil:
		d.discarded++
		return nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EBADFD):
		return nil
	}
	return err
}
