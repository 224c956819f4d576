package iperf3

import (
	"embed"
	"strings"
	"testing"
)

// testdata is in the test's binary, which runs in a VM as well.
//
//go:embed testdata/*.json
var testdata embed.FS

// said is what iperf3 3.12 has printed.
func said(t *testing.T, name string) []byte {
	t.Helper()
	text, err := testdata.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestReport(t *testing.T) {
	r, err := parse(said(t, "two-streams"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Bytes != 2763653120 || r.Retransmits != 4 || int(r.BitsPerSecond/1e6) != 22097 {
		t.Errorf("%.0f bytes, %.0f bit/s, %d retransmits", r.Bytes, r.BitsPerSecond, r.Retransmits)
	}
	if strings.Contains(r.JSON, "\n") || !strings.Contains(r.JSON, `"sum_received"`) {
		t.Errorf("not one line with all of it: %s", r.JSON)
	}
}

func TestNoReport(t *testing.T) {
	whole := said(t, "two-streams")
	for name, c := range map[string]struct{ text, want string }{
		"refused":   {string(said(t, "refused")), "Connection refused"},
		"nothing":   {"", "no JSON"},
		"cut off":   {string(whole[:len(whole)/2]), "no JSON"},
		"no server": {strings.ReplaceAll(string(whole), `"sum_received"`, `"sum_of_others"`), "received nothing"},
	} {
		if _, err := parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
