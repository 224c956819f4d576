package breakpoint

import (
	"os"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/internal/guest/guesttest"
)

// TestAnOfflineCPU is told from a point that is not reached.
func TestAnOfflineCPU(t *testing.T) {
	guesttest.Need(t, "holds up CPUs")
	const cpu = 3
	online := func(state string) {
		if err := os.WriteFile("/sys/devices/system/cpu/cpu3/online", []byte(state), 0); err != nil {
			t.Skip("this kernel lacks CONFIG_HOTPLUG_CPU, or the VM a CPU: ", err)
		}
	}
	f, err := disasm.Disassemble("tun_net_xmit")
	if err != nil {
		t.Fatal(err)
	}
	online("0")
	defer online("1")
	p, err := NewPauser()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	trap, err := p.Trap(cpu)
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	if err := trap.Set(f.Points[0]); err == nil || !strings.Contains(err.Error(), "offline") {
		t.Errorf("have %v, want that the CPU is offline", err)
	}
}
