package tun

import (
	"time"

	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/vhost"
)

// buffers are enough for a batch of vhost-net's (drivers/vhost/net.c:
// VHOST_NET_BATCH), and for another behind it.
const buffers = 128

// worker is vhost-net's. It takes packets from the ring, up to 64 at once, whether
// there are buffers for them or not; then it waits for a kick, and takes no more.
type worker struct {
	*vhost.Queue
	// flawed: it has a buffer with a flaw, and gets past none. unkicked: it
	// waits for a kick that was withheld.
	flawed, unkicked bool
}

func newWorker(tap int) (*worker, error) {
	q, err := vhost.Open(tap, vhost.Config{Size: buffers})
	if err != nil {
		return nil, err
	}
	return &worker{Queue: q}, q.Stop()
}

func (w *worker) Offer(packets int) { w.Queue.Offer(packets) }

func (w *worker) OfferUnkicked(packets int) { w.Queue.OfferUnkicked(packets, vhost.Sound) }

// Park: one that is stopped sleeps.
func (w *worker) Park(int) error { return nil }

func (w *worker) Hand() int { return 1 }

func (w *worker) Inline() bool { return false }

func (w *worker) Size() int { return buffers }

func (w *worker) Await(wait time.Duration) bool {
	if !w.AskForCall() {
		return true
	}
	defer w.RefuseCalls()
	return poll(w.Call(), wait)
}

// setBackend lets the worker take packets, unless the queue is detached: then
// Undo does, once it is attached.
func (d *device) setBackend(b driver.Bench) error {
	if !d.attached {
		return nil
	}
	b.Plug(true)
	return d.worker.Start()
}

// unsetBackend takes what has arrived until then: nobody would look for it in a
// vring that is replaced.
func (d *device) unsetBackend(b driver.Bench) error {
	b.Plug(false)
	if err := d.worker.Stop(); err != nil {
		return err
	}
	d.worker.flawed, d.worker.unkicked = false, false
	return b.Collect()
}

// whileUnset unsets the backend if there is a worker, for it holds the queue open,
// and sets it again if it was set.
func (d *device) whileUnset(b driver.Bench, do func() error) error {
	if d.worker == nil {
		return do()
	}
	was := b.Plugged()
	if err := d.unsetBackend(b); err != nil {
		return err
	}
	if err := do(); err != nil || !was {
		return err
	}
	return d.setBackend(b)
}

// workerFaults are those of a virtqueue and its worker. While it takes packets,
// "read" offers so many buffers, and reads what has arrived.
func workerFaults() []*driver.Fault {
	offer := func(flaw vhost.Flaw) func(driver.Bench, int) error {
		return func(b driver.Bench, n int) error {
			w := of(b).worker
			w.flawed = w.flawed || flaw != vhost.Sound
			if w.Queue.OfferUnkicked(n, flaw) {
				w.Kick()
				w.unkicked = false
			}
			return nil
		}
	}
	return []*driver.Fault{
		{Name: "unset the backend", Do: func(b driver.Bench, _ int) error { return of(b).unsetBackend(b) }},
		setTheBackend,
		replaceTheVirtqueue,
		{Name: "offer buffers:", Arguments: []int{1, 3, 100}, Do: offer(vhost.Sound)},
		{Name: "offer buffers and withhold the kick:", Arguments: []int{1, 100}, Do: func(b driver.Bench, n int) error {
			w := of(b).worker
			w.unkicked = w.Queue.OfferUnkicked(n, vhost.Sound) || w.unkicked
			return nil
		}},
		kickTheWorker,
		{Name: "offer buffers that are too small:", Arguments: []int{1, 3}, Do: offer(vhost.Short)},
		{Name: "offer buffers that are not mapped:", Arguments: []int{1, 3}, Do: offer(vhost.Unmapped)},
		{Name: "offer buffers that are not there:", Arguments: []int{1, 3}, Do: offer(vhost.Absent)},
	}
}

// Those that Undo needs.
var (
	setTheBackend       = &driver.Fault{Name: "set the backend", Do: func(b driver.Bench, _ int) error { return of(b).setBackend(b) }}
	replaceTheVirtqueue = &driver.Fault{Name: "replace the virtqueue", Do: func(b driver.Bench, _ int) error {
		return of(b).whileUnset(b, of(b).worker.Replace)
	}}
	kickTheWorker = &driver.Fault{Name: "kick the worker", Do: func(b driver.Bench, _ int) error {
		of(b).worker.unkicked = false
		of(b).worker.Kick()
		return nil
	}}
)
