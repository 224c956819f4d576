package vm

import (
	"testing"
	"time"
)

func TestCommonKHz(t *testing.T) {
	begin := time.Now()
	at := func(us, tsc int) tscSample {
		return tscSample{begin.Add(time.Duration(us) * time.Microsecond), uint64(tsc)}
	}
	for name, test := range map[string]struct {
		samples []tscSample
		want    int
	}{
		"one counter":        {[]tscSample{at(0, 5000), at(100, 205000), at(20000, 40005000), at(20100, 40205000)}, 2000000},
		"one is ahead":       {[]tscSample{at(0, 5000), at(100, 505000), at(20000, 40005000), at(20100, 40505000)}, 0},
		"one is behind":      {[]tscSample{at(0, 500000), at(100, 5000), at(20000, 40500000), at(20100, 40005000)}, 0},
		"one is slower":      {[]tscSample{at(0, 5000), at(100, 205000), at(20000, 40005000), at(20100, 20205000)}, 0},
		"none could be read": {nil, 0},
	} {
		if have := commonKHz(test.samples); have != test.want {
			t.Errorf("%s: %d kHz, want %d", name, have, test.want)
		}
	}
}
