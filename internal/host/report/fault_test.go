package report

import (
	"regexp"
	"testing"
)

// TestReported: what one boot reported is recognised in another.
func TestReported(t *testing.T) {
	r := &Run{
		Errors: []Fault{
			{Kind: Kernel, Title: "WARNING: CPU: 0 PID: 1 at drivers/net/tun.c:3843 noise+0x1d/0x30"},
			{Kind: Harness, What: "a test that failed"},
		},
		Noise: []Fault{{Kind: Kernel, Title: "WARNING: net/a.c:1 at f+0x1f0/0x210, CPU#2: guest.test/84"}},
	}
	patterns := r.Reported()
	if len(patterns) != 2 {
		t.Fatal(patterns)
	}
	for i, lines := range [][2]string{
		{"WARNING: CPU: 3 PID: 77 at drivers/net/tun.c:3850 noise+0x1d/0x30", "WARNING: CPU: 3 PID: 77 at drivers/net/tun.c:3850 tun_net_xmit+0x1d/0x30"},
		{"WARNING: net/a.c:1 at f+0x1f0/0x210, CPU#0: swapper/1", "WARNING: net/b.c:1 at f+0x1f0/0x210, CPU#0: swapper/1"},
	} {
		pattern := regexp.MustCompile(patterns[i])
		if !pattern.MatchString(lines[0]) || pattern.MatchString(lines[1]) {
			t.Errorf("%s: %v, %v", patterns[i], pattern.MatchString(lines[0]), pattern.MatchString(lines[1]))
		}
	}
}
