package tun

import (
	"errors"

	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
)

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
