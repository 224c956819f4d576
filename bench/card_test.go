package bench

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/ringproof/ringproof/internal/guest/vhost"
	"golang.org/x/sys/unix"
)

// card takes packets from a virtqueue, which vhost-net's worker fills from a tap
// device's ring, and writes them to another tap device.
type card struct {
	queue   *vhost.Queue
	to      int
	ended   int // eventfd: readable when it is to end
	packets atomic.Uint64
	done    chan struct{}
	err     error // written before done is closed
}

// cardBuffers is how many buffers a network card of QEMU's has (hw/net/virtio-net.c:
// VIRTIO_NET_RX_QUEUE_DEFAULT_SIZE).
const cardBuffers = 256

func startCard(from, to int) (*card, error) {
	// What is written has a header as long as what was read.
	if err := unix.IoctlSetPointerInt(to, unix.TUNSETVNETHDRSZ, vhost.HeaderBytes); err != nil {
		return nil, fmt.Errorf("TUNSETVNETHDRSZ %d: %w", vhost.HeaderBytes, err)
	}
	c := &card{to: to, done: make(chan struct{})}
	var err error
	if c.ended, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if c.queue, err = vhost.Open(from, vhost.Config{Size: cardBuffers, EventIdx: true}); err != nil {
		return nil, errors.Join(err, unix.Close(c.ended))
	}
	go func() {
		defer close(c.done)
		runtime.LockOSThread()
		c.err = c.run()
	}()
	return c, nil
}

func (c *card) Packets() uint64       { return c.packets.Load() }
func (c *card) Done() <-chan struct{} { return c.done }
func (c *card) Err() error            { return c.err }

func (c *card) run() error {
	buf := make([]byte, 2048)
	for {
		n, err := c.queue.Read(buf)
		if err == unix.EAGAIN {
			if c.queue.AskForCall() {
				events := []unix.PollFd{{Fd: int32(c.queue.Call()), Events: unix.POLLIN}, {Fd: int32(c.ended), Events: unix.POLLIN}}
				if _, err := unix.Poll(events, -1); err != nil && err != unix.EINTR {
					return fmt.Errorf("wait for vhost-net: %w", err)
				}
				if events[1].Revents != 0 {
					return nil
				}
			}
			c.queue.RefuseCalls()
			continue
		}
		if err != nil {
			return fmt.Errorf("take a packet from vhost-net: %w", err)
		}
		if free := c.queue.Free(); free >= cardBuffers/2 {
			c.queue.Offer(free)
		}
		if _, err := unix.Write(c.to, buf[:n]); err != nil {
			return fmt.Errorf("write what vhost-net has given: %w", err)
		}
		c.packets.Add(1)
	}
}

func (c *card) stop() error {
	_, err := unix.Write(c.ended, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-c.done
	return errors.Join(err, c.queue.Close(), unix.Close(c.ended))
}
