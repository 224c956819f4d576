package guest

import (
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// TestNoqueueDrops overruns the rings of a device that has no qdisc.
func TestNoqueueDrops(t *testing.T) { each(t, noqueueDrops) }

func noqueueDrops(t *testing.T) {
	promises := []contract.Promise{contract.NoqueueDrops, contract.NoStall}
	for _, c := range cells() {
		if c.Qdisc == string(netdev.Noqueue) {
			overrunCell(t, c, promises)
		}
	}
	for _, s := range senders {
		overrunFrom(t, s, netdev.Noqueue, promises)
	}
}
