package traffic

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sys/unix"
)

// readLoop is testdata/readloop.c, where selftest puts it into the image.
const readLoop = "/bin/readloop"

// BenchmarkReader takes packets from a ring that holds them all, so that
// nothing but the reader is measured. "c" is a loop in C that looks at nothing.
//
// All of them are sent by one CPU and read by another: an skb that is freed
// where it was allocated takes half as long, and where the scheduler puts a
// thread would be all that is measured.
//
// The readers take turns, for a machine's pace changes by the second; -test.count
// would repeat each before it goes on to the next.
func BenchmarkReader(b *testing.B) {
	const rounds = 9
	sends, reads := 1, 2
	fill := func(b *testing.B) (*tuntap.Device, *Link) {
		length := b.N
		d, err := tuntap.Open(tuntap.Config{Mode: tuntap.TUN, TxQueueLen: &length, Qdisc: netdev.Qdisc{Kind: netdev.Noqueue}})
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
		sent := make(chan error)
		if err := onThread(&sends, func() {
			for range b.N {
				if outcome, err := s.Send(); outcome != Sent {
					sent <- fmt.Errorf("%v: %w", outcome, err)
					return
				}
			}
			sent <- nil
		}); err != nil {
			b.Fatal(err)
		}
		if err := <-sent; err != nil {
			b.Fatal(err)
		}
		return d, link
	}
	report := func(b *testing.B, took time.Duration) {
		b.ReportMetric(float64(b.N)/took.Seconds(), "packets/s")
	}
	ours := func(b *testing.B, cfg ConsumerConfig) {
		d, link := fill(b)
		cfg.Paused, cfg.CPUs = true, []int{reads}
		c, err := Consume(link, d.Queues(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Stop()
		began := time.Now()
		c.Resume()
		for left := uint64(b.N); left > 0; left = uint64(b.N) - c.Received() {
			// Rarely before the end: without KVM, looking takes time from
			// the reader.
			time.Sleep(min(time.Duration(left)*time.Microsecond, 5*time.Millisecond))
		}
		report(b, time.Since(began))
	}
	readers := []struct {
		name string
		run  func(b *testing.B)
	}{
		{"c", func(b *testing.B) {
			if _, err := os.Stat(readLoop); err != nil {
				b.Skip(err)
			}
			d, _ := fill(b)
			fd, err := unix.Dup(d.Queues()[0])
			if err != nil {
				b.Fatal(err)
			}
			queue := os.NewFile(uintptr(fd), "queue")
			defer queue.Close()
			cmd := exec.Command(readLoop, strconv.Itoa(b.N), "3", strconv.Itoa(reads))
			cmd.ExtraFiles = []*os.File{queue}
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				b.Fatal(err)
			}
			took, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			report(b, time.Duration(took))
		}},
		{"blocking", func(b *testing.B) { ours(b, ConsumerConfig{}) }},
		{"epoll", func(b *testing.B) { ours(b, ConsumerConfig{Epoll: true}) }},
	}
	for round := range rounds {
		for i := range readers {
			// Each is the first one as often as any other: what a program
			// leaves behind is the next one's.
			r := readers[(round+i)%len(readers)]
			b.Run(fmt.Sprintf("%d/%s", round, r.name), r.run)
		}
	}
}

// BenchmarkSource sends into a ring that has room for all.
func BenchmarkSource(b *testing.B) {
	for _, from := range starters() {
		b.Run(from.name, func(b *testing.B) {
			length := b.N
			d, err := tuntap.Open(tuntap.Config{Mode: tuntap.TAP, TxQueueLen: &length, Qdisc: netdev.Qdisc{Kind: netdev.PfifoFast}})
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
