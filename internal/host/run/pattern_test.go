package run

import "testing"

func TestAnIDStandsForItself(t *testing.T) {
	for id, want := range map[string]string{
		"Schedules/f+0x1/drain-all/ring=2":   `Schedules/^f\+0x1$/drain-all/ring=2`,
		"Schedules/f+0x1&g+0x2/ring=2":       `Schedules/^f\+0x1&g\+0x2$/ring=2`,
		"Schedules/f+0x1&g+0x2~h+0x3/ring=2": `Schedules/^f\+0x1&g\+0x2~h\+0x3$/ring=2`,
		"f+0x1&g+0x2:2~h.cold+0x3:4/ring=2":  `^f\+0x1&g\+0x2:2~h\.cold\+0x3:4$/ring=2`,
		"TestNoStall/fq_codel|x+":            "TestNoStall/fq_codel|x+",
	} {
		if got := Pattern(id); got != want {
			t.Errorf("%s: have %s, want %s", id, got, want)
		}
	}
}

// TestAPatternThatMatchesNothing: tests of which no check has run are not all that was
// asked for, if the pattern names checks.
func TestAPatternThatMatchesNothing(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		ran     []string
		says    bool
	}{
		{"TestSchedules/no_such_function", []string{"TestSchedules"}, true},
		{"TestSchedules/tun_net_xmit", []string{"TestSchedules/tun_net_xmit/fill"}, false},
		{"TestKernel", []string{"TestKernel"}, false},
	} {
		r := &Run{flags: Flags{Run: tt.pattern}}
		for _, test := range tt.ran {
			r.Count(test, "pass")
		}
		if says := r.unmatched(); (says != "") != tt.says {
			t.Errorf("-run %s, and %v has run: %q", tt.pattern, tt.ran, says)
		}
	}
}
