package traffic

import (
	"testing"
	"time"
	"unsafe"

	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sys/unix"
)

// BenchmarkReader takes packets from a ring that holds them all, so that
// nothing but the reader is measured; "bare" is what a loop in C would do:
// read(2), and look at nothing.
func BenchmarkReader(b *testing.B) {
	fill := func(b *testing.B) (*tuntap.Device, *Link) {
		length := b.N
		d, err := tuntap.Open(tuntap.Config{Mode: tuntap.TUN, TxQueueLen: &length, Qdisc: tuntap.Qdisc{Kind: tuntap.Noqueue}})
		if err != nil {
			b.Skip(err)
		}
		b.Cleanup(func() { d.Close() })
		link, err := LinkByName(d.Name())
		if err != nil {
			b.Fatal(err)
		}
		s, err := NewSender(link, SenderConfig{})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		for range b.N {
			if outcome, err := s.Send(); outcome != Sent {
				b.Fatal(outcome, err)
			}
		}
		return d, link
	}
	b.Run("bare", func(b *testing.B) {
		d, _ := fill(b)
		fd, buf := d.Queues()[0], make([]byte, 2048)
		b.ResetTimer()
		for range b.N {
			if _, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf))); errno != 0 {
				b.Fatal(errno)
			}
		}
	})
	for name, cfg := range map[string]ConsumerConfig{"blocking": {}, "epoll": {Epoll: true}} {
		b.Run(name, func(b *testing.B) {
			d, link := fill(b)
			cfg.Paused = true
			c, err := Consume(link, d.Queues(), cfg)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Stop()
			b.ResetTimer()
			c.Resume()
			for c.Received() < uint64(b.N) {
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// BenchmarkSource sends into a ring that has room for all.
func BenchmarkSource(b *testing.B) {
	for _, from := range starters() {
		b.Run(from.name, func(b *testing.B) {
			length := b.N
			d, err := tuntap.Open(tuntap.Config{Mode: tuntap.TAP, TxQueueLen: &length, Qdisc: tuntap.Qdisc{Kind: tuntap.PfifoFast}})
			if err != nil {
				b.Skip(err)
			}
			defer d.Close()
			link, err := LinkByName(d.Name())
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			sources, err := from.start(link, uint64(b.N), 1)
			if err != nil {
				b.Skip(err)
			}
			<-sources[0].Done()
			b.StopTimer()
			if err := sources[0].Stop(); err != nil {
				b.Error(err)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	packet := testPacket(Packet{Source: 1, Flow: 1, Seq: 1}, 160)
	var a arrival
	for range b.N {
		if a.parse(packet, true); a.wrong != "" {
			b.Fatal(a.wrong)
		}
	}
}
