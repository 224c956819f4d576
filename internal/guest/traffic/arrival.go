package traffic

import (
	"sync"
	"time"
)

// Arrival is a packet that a consumer shall watch out for.
type Arrival struct {
	consumer *Consumer
	packet   Packet
	at       chan int // the queue
	once     sync.Once
	dismiss  func()
}

// offer is called for each packet while the Arrival is awaited.
func (w *Arrival) offer(p Packet, queue int) {
	if p == w.packet {
		select {
		case w.at <- queue:
		default:
		}
	}
}

// Expect begins to watch out for a packet. Call it before the packet is sent,
// and Wait for it after.
func (c *Consumer) Expect(p Packet) *Arrival {
	w := &Arrival{consumer: c, packet: p, at: make(chan int, 1)}
	c.changeAwaited(func(awaited []*Arrival) []*Arrival { return append(awaited, w) })
	w.dismiss = func() {
		c.changeAwaited(func(awaited []*Arrival) []*Arrival {
			kept := awaited[:0]
			for _, other := range awaited {
				if other != w {
					kept = append(kept, other)
				}
			}
			return kept
		})
	}
	return w
}

// Wait says on which queue the packet arrived, or that it did not within the
// timeout. It ends the watch.
func (w *Arrival) Wait(timeout time.Duration) (queue int, ok bool) {
	defer w.once.Do(w.dismiss)
	for deadline := time.Now().Add(timeout); ; time.Sleep(100 * time.Microsecond) {
		late := time.Now().After(deadline)
		w.consumer.check()
		select {
		case queue = <-w.at:
			return queue, true
		default:
		}
		if late {
			return 0, false
		}
	}
}

// changeAwaited replaces the list, which readers only ever read; nil while
// nothing is awaited.
func (c *Consumer) changeAwaited(change func([]*Arrival) []*Arrival) {
	c.awaitedMu.Lock()
	defer c.awaitedMu.Unlock()
	var awaited []*Arrival
	if old := c.awaited.Load(); old != nil {
		awaited = append(awaited, *old...)
	}
	if awaited = change(awaited); len(awaited) == 0 {
		c.awaited.Store(nil)
		return
	}
	c.awaited.Store(&awaited)
}
