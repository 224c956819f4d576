package contract

import (
	"strings"
	"testing"
)

func TestParseDriver(t *testing.T) {
	for name, want := range map[string]string{"": "tun", "tun": "tun", "veth": "veth", "all": "all"} {
		if have, err := ParseDriver(name); have != want || err != nil {
			t.Errorf("%q: have %q, %v, want %q", name, have, err, want)
		}
	}
	for _, name := range []string{"vet", "TUN", "tun,veth"} {
		if have, err := ParseDriver(name); err == nil || !strings.Contains(err.Error(), "veth") || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: have %q, %v, want an error that names it and what it can be", name, have, err)
		}
	}
}
