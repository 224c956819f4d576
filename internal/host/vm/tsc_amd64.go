package vm

import (
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// rdtsc reads the time-stamp counter.
func rdtsc() uint64

// tscError is by how much the counter of any CPU may be ahead of another's or
// behind, and tscTime how long that is looked for.
const (
	tscTime  = 20 * time.Millisecond
	tscError = 20 * time.Microsecond
)

// tscKHz measures the frequency of the host's time-stamp counter, within some
// ppm. It returns 0 if the counter is not the same on all CPUs, or not always as
// fast. Whether the host's own kernel uses it is another matter: in a VM it may
// be told not to.
var tscKHz = sync.OnceValue(func() int {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !strings.Contains(string(info), " constant_tsc") {
		return 0
	}
	samples := make(chan []tscSample)
	go func() {
		// Not unlocked: the thread, which goes from CPU to CPU, ends with the
		// goroutine.
		runtime.LockOSThread()
		samples <- sampleAll()
	}()
	return commonKHz(<-samples)
})

// tscSample is the counter's value at a moment.
type tscSample struct {
	at  time.Time
	tsc uint64
}

// sampleAll samples each CPU's counter, twice. It returns nil if it cannot.
func sampleAll() (samples []tscSample) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil
	}
	for round := range 2 {
		time.Sleep(time.Duration(round) * tscTime)
		for cpu := range 64 * len(all) {
			if !all.IsSet(cpu) {
				continue
			}
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				return nil
			}
			samples = append(samples, sampleTSC())
		}
	}
	return samples
}

// commonKHz is the frequency at which all samples are of the same counter, 0 if
// there is none.
func commonKHz(samples []tscSample) int {
	if len(samples) == 0 {
		return 0
	}
	first, last := samples[0], samples[len(samples)-1]
	perNano := float64(last.tsc-first.tsc) / float64(last.at.Sub(first.at))
	for _, s := range samples {
		took := float64(int64(s.tsc-first.tsc)) / perNano
		if math.Abs(took-float64(s.at.Sub(first.at))) > float64(tscError) {
			return 0
		}
	}
	return int(perNano * 1e6)
}

// sampleTSC takes the closest of a few pairs of moment and value, because the
// thread may be preempted in between.
func sampleTSC() (s tscSample) {
	best := ^uint64(0)
	for range 20 {
		before := rdtsc()
		now := time.Now()
		after := rdtsc()
		if after-before < best {
			best, s = after-before, tscSample{now, before + (after-before)/2}
		}
	}
	return s
}
