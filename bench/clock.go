package bench

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// stopwatch measures what passes while something is executed: with the ruler of
// instructions, how many there were, of all CPUs and whoever's; with that of time,
// nanoseconds.
type stopwatch struct {
	window int // of the profile: the nth
	began  time.Time
	idle   time.Duration // so far, when it began
}

var windows int

func startWatch() (stopwatch, error) {
	idle, err := idleTime()
	windows++
	w := stopwatch{windows, time.Now(), idle}
	markOpen()
	return w, err
}

// elapsed is what has passed since. While there is nothing to execute, the clock
// that counts instructions jumps: that does not count.
func (w stopwatch) elapsed() (float64, error) {
	markClose()
	took := time.Since(w.began)
	if !setting.instructions {
		return float64(took), nil
	}
	idle, err := idleTime()
	return float64(took - (idle - w.idle)), err
}

var idleSleeptime = regexp.MustCompile(`(?m)^ +\.idle_sleeptime +: (\d+) nsecs`)

// idleTime is how long all CPUs together have been idle (kernel/time/timer_list.c:
// print_cpu; without CONFIG_NO_HZ_COMMON the kernel does not tell, and no CPU's
// tick is ever stopped).
func idleTime() (time.Duration, error) {
	if !setting.instructions {
		return 0, nil
	}
	text, err := os.ReadFile("/proc/timer_list")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, m := range idleSleeptime.FindAllSubmatch(text, -1) {
		n, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// activity is what the kernel counts of itself.
type activity struct {
	switches, netTx, netRx uint64
}

func readActivity() (activity, error) {
	var a activity
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return a, err
	}
	softirqs, err := os.ReadFile("/proc/softirqs")
	if err != nil {
		return a, err
	}
	for line := range strings.Lines(string(stat) + string(softirqs)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		var into *uint64
		switch fields[0] {
		case "ctxt":
			into = &a.switches
		case "NET_TX:":
			into = &a.netTx
		case "NET_RX:":
			into = &a.netRx
		default:
			continue
		}
		for _, field := range fields[1:] {
			n, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return a, fmt.Errorf("%s %w", fields[0], err)
			}
			*into += n
		}
	}
	return a, nil
}

// per adds to values how often each happened since before, for each of so many
// packets.
func (a activity) per(packets uint64, before activity, values map[string]float64) {
	if packets == 0 {
		return
	}
	n := float64(packets)
	values["switches/pkt"] = float64(a.switches-before.switches) / n
	values["nettx/pkt"] = float64(a.netTx-before.netTx) / n
}
