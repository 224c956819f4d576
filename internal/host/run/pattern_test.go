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
