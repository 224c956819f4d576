package guest

import (
	"fmt"
	"testing"
	"time"

	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver/veth"
	"github.com/ringproof/ringproof/internal/guest/traffic"
)

// TestMirror sends packets to a far end whose XDP program turns them around. They go into
// the ring of the near end, and must not stay there.
func TestMirror(t *testing.T) { each(t, mirror) }

func mirror(t *testing.T) {
	if subject != veth.Driver {
		t.Skip("left out: XDP_TX of a tap device goes into its own ring, as TestNoTailDrop has it")
	}
	begin(t, contract.NoStall)
	c := contractOf(t)
	step("make a pair whose far end sends back what it receives", "")
	m, err := veth.OpenMirror()
	lacking(t, c, []contract.Promise{contract.NoStall}, err)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	near, err := traffic.LinkByName(m.Link().Name())
	if err != nil {
		t.Fatal(err)
	}
	far, err := traffic.LinkByName(m.Far().Name())
	if err != nil {
		t.Fatal(err)
	}
	receiver := traffic.NewReceiver(near, m.Read, 0, 0)
	sends := func(from *traffic.Link, source uint8, packets int) (dropped int) {
		s, err := traffic.NewSender(from, traffic.SenderConfig{Path: traffic.PacketSocket, Source: source})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range packets {
			outcome, err := s.Send()
			if err != nil {
				t.Fatal(err)
			}
			if outcome == traffic.Refused {
				dropped++
			}
		}
		return dropped
	}
	// arrive waits until so many have arrived in all, or nothing has for a while.
	arrive := func(packets uint64) {
		for moved := time.Now(); receiver.Received() < packets && time.Since(moved) < stage.Patience; {
			ok, err := receiver.Read()
			switch {
			case err != nil:
				t.Fatal(err)
			case ok:
				moved = time.Now()
			default:
				time.Sleep(time.Millisecond)
			}
		}
	}
	const packets = 20
	step("send packets that are turned around", "")
	sends(near, 1, packets)
	arrive(packets)
	came := receiver.Received()
	if came == packets {
		report(t, contract.Verdict{Promise: contract.NoStall, Contract: c, Outcome: contract.Kept, Why: fmt.Sprintf("all %d packets that were turned around have come back", packets)})
		return
	}
	step("send a packet that schedules NAPI of the near end", "")
	sends(far, 2, 1)
	arrive(packets + 1)
	why := fmt.Sprintf("of %d packets that XDP_TX of the far end has put into the ring of the near end, %d came back within %v; when the far end had sent another packet, %d were there", packets, came, stage.Patience, receiver.Received())
	step("fill the ring of the near end", "")
	sends(near, 3, subject.Ring+1)
	const more = 10
	if dropped := sends(far, 4, more); dropped > 0 {
		why += fmt.Sprintf("; with that ring full of such packets, %d of %d packets that the far end sent were dropped", dropped, more)
	}
	report(t, contract.Verdict{Promise: contract.NoStall, Contract: c, Outcome: contract.Broken, Why: why})
}
