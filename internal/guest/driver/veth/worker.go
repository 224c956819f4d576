package veth

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// worker is NAPI of the far end, as a consumer that is told when to take packets. It
// needs no buffers: that it is offered some says that it may go on, and takes what is
// there.
type worker struct {
	*end
	started, offered bool
	arrivals         arrivals
}

// Start lets NAPI take packets once it was offered buffers, before or later.
func (w *worker) Start() error {
	w.started = true
	return w.Hold(!w.offered)
}

// Stop holds NAPI up.
func (w *worker) Stop() error {
	w.started, w.offered = false, false
	return w.Hold(true)
}

func (w *worker) Offer(int) {
	w.offered = true
	if w.started && w.holds() {
		w.Hold(false)
	}
}

func (w *worker) OfferUnkicked(int) { w.offered = true }

// Size and Free: it takes all that there is at once.
func (w *worker) Size() int { return 1 }
func (w *worker) Free() int { return 0 }

func (w *worker) Read(buf []byte) (int, error) {
	n, err := w.arrivals.read(w.sockets[0], buf)
	if errors.Is(err, unix.ENETDOWN) { // the far end was down
		err = unix.EAGAIN
	}
	return n, err
}

func (w *worker) Await(wait time.Duration) bool {
	if w.arrivals.ready() {
		return true
	}
	timeout := unix.NsecToTimespec(wait.Nanoseconds())
	n, _ := unix.Ppoll([]unix.PollFd{{Fd: int32(w.sockets[0]), Events: unix.POLLIN}}, &timeout, nil)
	return n > 0
}
