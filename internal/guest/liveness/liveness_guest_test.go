package liveness

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
)

// subject is a device with paused consumers, and what Check needs.
type subject struct {
	*tuntap.Device
	link     *traffic.Link
	consumer *traffic.Consumer
	cfg      Config
}

func open(t *testing.T, cfg tuntap.Config) *subject {
	t.Helper()
	guesttest.Need(t, "makes network devices")
	dev, err := tuntap.Open(cfg)
	guesttest.NoError(t, err)
	t.Cleanup(func() { dev.Close() })
	s := &subject{Device: dev}
	if s.link, err = traffic.LinkByName(dev.Name()); err != nil {
		t.Fatal(err)
	}
	if s.consumer, err = traffic.Consume(s.link, dev.Queues(), traffic.ConsumerConfig{Paused: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.consumer.Stop() })
	s.cfg = Config{Device: dev, Queues: dev.Queues(), Received: s.consumer.Received, Revivals: tun.Revivals(dev)}
	// Eight flows cover four txqs.
	for flow := range uint16(8) {
		s.cfg.Fresh = append(s.cfg.Fresh, s.sender(t, traffic.PacketSocket, 200, flow))
		s.cfg.Bypass = append(s.cfg.Bypass, s.sender(t, traffic.PacketBypass, 201, flow))
	}
	return s
}

func (s *subject) sender(t *testing.T, path traffic.Path, source uint8, flow uint16) *traffic.Sender {
	t.Helper()
	sender, err := traffic.NewSender(s.link, traffic.SenderConfig{Path: path, Source: source, FirstFlow: flow, MinBytes: 64, MaxBytes: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sender.Close() })
	return sender
}

// press sends packets on all flows without regard to what becomes of them.
func (s *subject) press(t *testing.T, packets int) {
	t.Helper()
	for flow := range uint16(8) {
		sender := s.sender(t, traffic.PacketSocket, uint8(flow), flow)
		for range packets / 8 {
			if outcome, err := sender.Send(); err != nil {
				t.Fatal(err)
			} else if outcome == traffic.Full {
				break
			}
		}
	}
}

func ringOf(slots int) *int { return &slots }

func TestNoAlarmWithAnyQdisc(t *testing.T) {
	for _, test := range []struct {
		qdisc netdev.Qdisc
		hold  time.Duration
	}{
		{netdev.Qdisc{Kind: netdev.Noqueue}, 0},
		{netdev.Qdisc{Kind: netdev.PfifoFast}, 0},
		{netdev.Qdisc{Kind: netdev.Pfifo, Limit: 100}, 0},
		{netdev.Qdisc{Kind: netdev.FQ}, 0},
		{netdev.Qdisc{Kind: netdev.FQCodel}, 0},
		{netdev.Qdisc{Kind: netdev.MQ}, 0},
		// One packet in 0.32 s, three of them longer than the patience.
		{netdev.Qdisc{Kind: netdev.TBF, Rate: 200, Burst: 100, Limit: 1000}, 400 * time.Millisecond},
		{netdev.Qdisc{Kind: netdev.MQ, Leaf: &netdev.Qdisc{Kind: netdev.TBF, Rate: 200, Burst: 100, Limit: 1000}}, 400 * time.Millisecond},
		{netdev.Qdisc{Kind: netdev.Netem, Delay: 3 * time.Second}, 3 * time.Second},
	} {
		t.Run(test.qdisc.String(), func(t *testing.T) {
			t.Parallel()
			cfg := tuntap.Config{Mode: tuntap.TUN, TxQueueLen: ringOf(8), Qdisc: test.qdisc}
			if test.qdisc.Kind == netdev.MQ {
				cfg.Queues = 4
			}
			s := open(t, cfg)
			s.press(t, 400)
			s.consumer.Resume()
			s.cfg.Patience = time.Second
			s.cfg.Hold = test.hold
			if test.qdisc.Shaped() {
				s.cfg.Fresh = s.cfg.Fresh[:2]
			}
			start := time.Now()
			stall, err := Check(s.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if stall != nil {
				t.Errorf("false alarm: %v", stall)
			}
			t.Logf("alive after %v", time.Since(start).Round(time.Millisecond))
		})
	}
}

// A qdisc that holds its packets for an hour is not stalled, but looks so to
// one who does not know.
func TestAlarmWhenNothingMoves(t *testing.T) {
	s := open(t, tuntap.Config{Mode: tuntap.TUN, Qdisc: netdev.Qdisc{Kind: netdev.Netem, Delay: time.Hour}})
	s.consumer.Resume()
	s.press(t, 16)
	stall, err := Check(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if stall == nil {
		t.Fatal("16 packets are stuck in the qdisc, and there is no alarm")
	}
	t.Log(stall)
	if !strings.Contains(stall.Why, "the qdisc holds 16 packets") || stall.Revived != "the root qdisc replaced by a pfifo" || stall.Again != "" {
		t.Error("wrong evidence")
	}
	for _, want := range []string{"not stopped", "sysrq: Show backtrace of all active CPUs", "sysrq: Show Blocked State"} {
		if !strings.Contains(stall.String(), want) {
			t.Errorf("no %q in the evidence", want)
		}
	}
}

// Detached from its only queue, a device drops what is sent to it.
func TestAlarmWhenAFreshPacketVanishes(t *testing.T) {
	s := open(t, tuntap.Config{Mode: tuntap.TUN, MultiQueue: true})
	if err := s.Detach(0); err != nil {
		t.Fatal(err)
	}
	s.consumer.Resume()
	stall, err := Check(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if stall == nil || !strings.Contains(stall.Why, "did not arrive") {
		t.Fatalf("fresh packets vanish, and all there is to say is: %v", stall)
	}
	t.Log(stall.Error())
}

func TestAConsumerThatDoesNotReadIsNoStall(t *testing.T) {
	s := open(t, tuntap.Config{Mode: tuntap.TUN})
	s.press(t, 16)
	s.cfg.Patience = 500 * time.Millisecond
	stall, err := Check(s.cfg)
	if notRead := (*NotReadError)(nil); stall != nil || !errors.As(err, &notRead) {
		t.Errorf("have %v, %v; want a NotReadError", stall, err)
	}
	for asleep, want := range map[bool]string{false: "", true: "a ring has packets, but nothing has woken its reader"} {
		looks := 0
		s.cfg.Asleep = func() (bool, error) { looks++; return asleep || looks < 5, nil }
		stall, err := Check(s.cfg)
		if notRead := (*NotReadError)(nil); want == "" && (stall != nil || !errors.As(err, &notRead)) {
			t.Errorf("a reader that was awake once: have %v, %v; want a NotReadError", stall, err)
		}
		if want != "" && (stall == nil || !strings.Contains(stall.Why, want)) {
			t.Errorf("a reader that is not woken: have %v, %v; want %q", stall, err, want)
		}
	}
}
