package veth

import (
	"errors"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"golang.org/x/sys/unix"
)

// TestHeldUp: a consumer that is held up takes what it has in hand, and no more, and one
// that is let go on takes everything, again and again and with NAPI that is new.
func TestHeldUp(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	for _, consumer := range []driver.Consumer{GRO, XDP, Threaded} {
		t.Run(string(consumer), func(t *testing.T) {
			opened, err := open(driver.Setup{Ring: slots, Qdisc: netdev.FQCodel, Consumer: consumer})
			guesttest.NoError(t, err)
			d := opened.(*device)
			defer func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}()
			link, err := traffic.LinkByName(d.near.Name())
			guesttest.NoError(t, err)
			sender, err := traffic.NewSender(link, traffic.SenderConfig{MinBytes: 64, MaxBytes: 64, SendBuffer: 16 << 20})
			guesttest.NoError(t, err)
			defer sender.Close()
			send := func(packets int) {
				t.Helper()
				if outcome, err := sender.SendAll(packets); err != nil || outcome != traffic.Sent {
					t.Fatal(outcome, err)
				}
			}
			arrived := func() (n int) {
				t.Helper()
				var buf [2048]byte
				for {
					if _, err := d.worker.Read(buf[:]); errors.Is(err, unix.EAGAIN) {
						return n
					} else if err != nil {
						t.Fatal(err)
					}
					n++
				}
			}
			for range 3 {
				for range 20 {
					guesttest.NoError(t, d.worker.Stop())
					send(d.worker.Hand())
					guesttest.NoError(t, d.worker.Settle())
					if n := arrived(); n != d.worker.Hand() {
						t.Fatalf("of the %d packets that it has in hand it has taken %d", d.worker.Hand(), n)
					}
					send(slots + 1)
					if d.worker.Await(5 * time.Millisecond) {
						t.Fatalf("it is held up, and has taken %d packets", arrived())
					}
					stats, err := d.near.QdiscStats()
					// The ring gives slots back in batches (include/linux/ptr_ring.h:
					// __ptr_ring_discard_one).
					if waiting := netdev.SumQdiscs(stats).Qlen; err != nil || waiting < 1 || waiting > private {
						t.Fatalf("%d packets are sent into a ring of %d that nobody empties, and %d wait for it: %v", slots+1, slots, waiting, err)
					}
					guesttest.NoError(t, d.worker.Start())
					d.worker.Offer(1)
					guesttest.NoError(t, d.worker.Settle())
					n := arrived()
					for n < slots+1 && d.worker.Await(time.Second) {
						n += arrived()
					}
					if n != slots+1 {
						t.Fatalf("it goes on, and takes %d packets of %d", n, slots+1)
					}
				}
				guesttest.NoError(t, d.renew())
			}
		})
	}
}
