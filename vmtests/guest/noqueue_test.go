package guest

import (
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
)

// TestNoqueueDrops overruns the rings of a device that has no qdisc.
func TestNoqueueDrops(t *testing.T) {
	for _, c := range cells() {
		if c.Qdisc != string(tuntap.Noqueue) {
			continue
		}
		variants(t, c.String(), func(t *testing.T, flags uint16) {
			r := newRig(t, fromCell(c, flags), contract.NoqueueDrops, contract.NoStall)
			r.produce(c.Producers, traffic.PacketSocket)
			r.press()
			r.race(enough(c))
			r.decide()
		})
	}
	for _, s := range senders {
		variants(t, "sender/"+s.name, func(t *testing.T, flags uint16) {
			r := newRig(t, rigConfig{mode: tuntap.TAP, txQueue: 16, qdisc: tuntap.Qdisc{Kind: tuntap.Noqueue}, flags: flags},
				contract.NoqueueDrops, contract.NoStall)
			s.start(r, 2)
			r.press()
			r.race(2000)
			r.decide()
		})
	}
}
