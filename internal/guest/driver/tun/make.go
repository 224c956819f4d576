package tun

import (
	"errors"
	"fmt"

	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"github.com/ringproof/ringproof/internal/guest/vhost"
	"golang.org/x/sys/unix"
)

// modes: what vhost-net is offered is what a Linux guest negotiates.
var modes = []driver.Mode{
	{Name: "tap"},
	{Name: "tun"},
	{Name: "vhost", Consumer: ByVhost(vhost.Config{Mergeable: true, EventIdx: true})},
}

// made is a device of Make.
type made struct{ *tuntap.Device }

// Of is the tun or tap device that Make has made.
func Of(m driver.Made) *tuntap.Device { return m.(made).Device }

func makeDevice(shape driver.Shape) (driver.Made, error) {
	cfg := tuntap.Config{Mode: tuntap.TAP, Queues: shape.TxQueues, TxQueueLen: &shape.TxQueueLen, Qdisc: shape.Qdisc}
	switch shape.Mode {
	case "tap":
	case "tun":
		cfg.Mode = tuntap.TUN
	case "vhost":
		cfg.Flags |= unix.IFF_VNET_HDR
	default:
		return nil, fmt.Errorf("make a tun device: there is no mode %q", shape.Mode)
	}
	if shape.Backpressure {
		cfg.Flags |= tuntap.IFFBackpressure
	}
	dev, err := tuntap.Open(cfg)
	if err != nil {
		return nil, err
	}
	return made{dev}, nil
}

func (m made) Link() *netdev.Device { return m.Device.Device }

func (m made) Counters() driver.Counters { return m.Device.Device }

func (m made) Far() int { return 0 }

// Taker: who reads a queue, or vhost-net, takes packets from its ring.
func (m made) Taker() traffic.Taker { return nil }

// Settle: what the qdisc has handed over is in a ring.
func (m made) Settle() error { return nil }

func (m made) Revivals() []driver.Revival { return Revivals(m.Device) }

// Revivals returns what can be done to a tun or tap device that is stalled, the
// least first. What is queued is lost by it.
func Revivals(dev *tuntap.Device) []driver.Revival {
	each := func(do func(int) error) (err error) {
		for queue, fd := range dev.Queues() {
			if fd >= 0 {
				err = errors.Join(err, do(queue))
			}
		}
		return err
	}
	return []driver.Revival{
		{Name: "the root qdisc replaced by a pfifo", Do: func() error {
			return dev.SetQdisc(netdev.Qdisc{Kind: netdev.Pfifo, Limit: 1000})
		}},
		{Name: "TUNSETQUEUE: each queue detached and attached", Do: func() error {
			return errors.Join(each(dev.Detach), each(dev.Attach))
		}},
		{Name: "link down and up", Do: func() error {
			return errors.Join(dev.SetUp(false), dev.SetUp(true))
		}},
	}
}
