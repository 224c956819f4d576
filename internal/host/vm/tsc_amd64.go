package vm

import (
	"os"
	"strings"
	"sync"
	"time"
)

// rdtsc reads the time-stamp counter.
func rdtsc() uint64

// tscKHz measures the frequency of the host's time-stamp counter, within some
// ppm, in 20 ms. It returns 0 if the host itself does not trust the counter.
var tscKHz = sync.OnceValue(func() int {
	clocks, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/available_clocksource")
	if err != nil || !strings.Contains(string(clocks), "tsc") {
		return 0
	}
	at0, tsc0 := sampleTSC()
	time.Sleep(20 * time.Millisecond)
	at1, tsc1 := sampleTSC()
	return int(float64(tsc1-tsc0) / float64(at1.Sub(at0).Nanoseconds()) * 1e6)
})

// sampleTSC returns a moment and the counter's value at that moment: the
// closest of a few pairs, because the thread may be preempted in between.
func sampleTSC() (at time.Time, tsc uint64) {
	best := ^uint64(0)
	for range 20 {
		before := rdtsc()
		now := time.Now()
		after := rdtsc()
		if after-before < best {
			best, at, tsc = after-before, now, before+(after-before)/2
		}
	}
	return at, tsc
}
