package veth

import (
	"errors"
	"fmt"
	"os"

	"github.com/ringproof/ringproof/internal/guest/driver"
)

// changes of a pair. Those for which NAPI of the far end has to come to rest are done
// while it is at rest: it has put off its next poll.
var changes = []driver.Change{
	{Name: "fewer-txqs", TxQueues: 4,
		Do: func(m driver.Made) error { return setChannels(m.Link().Name(), 4, 1) },
		Undo: func(m driver.Made) error {
			return errors.Join(setChannels(m.Link().Name(), 4, 4), m.Link().AwaitCarrier())
		}},
	{Name: "mtu", TxQueues: 2,
		Do:   func(m driver.Made) error { return m.Link().SetMTU(1400) },
		Undo: func(m driver.Made) error { return m.Link().SetMTU(1500) }},
	atRest("gro-cycle", GRO, func(e *end) error { return errors.Join(e.setGRO(false), e.setGRO(true)) }),
	atRest("xdp-cycle", XDP, func(e *end) error { return errors.Join(e.detach(), e.attach(always(xdpPass))) }),
	atRest("far-cycle", GRO, func(e *end) error { return errors.Join(e.far.SetUp(false), e.far.SetUp(true)) }),
}

func atRest(name string, mode driver.Consumer, change func(*end) error) driver.Change {
	return driver.Change{
		Name: name, Mode: string(mode), TxQueues: 2,
		Before: func(m driver.Made) error { return m.(made).putOff(true) },
		Do: func(m driver.Made) error {
			e := m.(made).end
			return errors.Join(e.putOff(false), change(e), e.near.AwaitCarrier(), e.find())
		},
		Undo: func(driver.Made) error { return nil },
	}
}

// putOff has NAPI of the far end put off all polls but the next one
// (Documentation/networking/napi.rst: IRQ mitigation). The driver schedules none either,
// for it has masked its notifications.
func (e *end) putOff(on bool) error {
	times, ns := 0, 0
	if on {
		times, ns = 1, 600e9
	}
	for file, value := range map[string]int{"gro_flush_timeout": ns, "napi_defer_hard_irqs": times} {
		if err := os.WriteFile("/sys/class/net/"+e.far.Name()+"/"+file, []byte(fmt.Sprint(value)), 0); err != nil {
			return fmt.Errorf("have NAPI of %s put off its polls: %w", e.far.Name(), err)
		}
	}
	return nil
}
