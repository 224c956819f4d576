package disasm

import "testing"

// TestPrefix: a function of a driver may begin with underscores.
func TestPrefix(t *testing.T) {
	for name, want := range map[string]string{"tun_net_xmit": "tun", "__tun_wake_queue": "tun", "tun": "tun", "veth_xmit": "veth", "ptr_ring_consume": "ptr"} {
		if got := prefix(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
