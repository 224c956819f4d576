package symbols

import (
	"strings"
	"testing"
)

func TestParseSymbols(t *testing.T) {
	table, err := parse(strings.NewReader(`ffffffff81000100 T first
ffffffff81000080 t tun_net_xmit.isra.0
ffffffff81000090 d not_code
ffffffff81000200 t tun_net_xmit.cold
ffffffffc0000000 t veth_xmit	[veth]
`))
	if err != nil {
		t.Fatal(err)
	}
	for ret, want := range map[uint64]string{
		0xffffffff81000081: "tun_net_xmit",
		0xffffffff81000100: "tun_net_xmit", // its last instruction was the call
		0xffffffff81000101: "first",
		0xffffffff81000210: "tun_net_xmit",
		0xffffffffc0000010: "veth_xmit [veth]",
		0x1000:             "0x1000",
	} {
		if got := table.Caller(ret); got != want {
			t.Errorf("%#x: have %s, want %s", ret, got, want)
		}
	}
	for _, in := range []string{"", "0000000000000000 T hidden\n", "ffffffff81000100 T\n", "xyz T name\n"} {
		if table, err := parse(strings.NewReader(in)); err == nil {
			t.Errorf("%q: have %v, want an error", in, table)
		}
	}
}
