package bench

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/cost"
)

// stopwatch counts the instructions that are executed, of all CPUs and whoever's, with
// the ruler of instructions. With that of time it does nothing.
type stopwatch struct {
	window int // the nth
	began  time.Time
	idle   time.Duration // so far, when it began
}

var windows int

func startWatch() (stopwatch, error) {
	if !setting.instructions {
		return stopwatch{}, nil
	}
	idle, _, err := idleTime()
	windows++
	w := stopwatch{windows, time.Now(), idle}
	markOpen()
	return w, err
}

// stop returns what was executed since, for the caller to say for what; nil with the
// ruler of time. While there is nothing to execute, the clock that counts instructions
// jumps: that does not count.
func (w stopwatch) stop() (*cost.Window, error) {
	if !setting.instructions {
		return nil, nil
	}
	markClose()
	took := time.Since(w.began)
	idle, known, err := idleTime()
	return &cost.Window{Number: w.window, Instructions: float64(took - (idle - w.idle)), IdleUnknown: !known}, err
}

var idleSleeptime = regexp.MustCompile(`(?m)^ +\.idle_sleeptime +: (\d+) nsecs`)

// idleTime is how long all CPUs together have been idle (kernel/time/timer_list.c:
// print_cpu). Not every kernel tells: 7.2 counts that elsewhere
// (kernel/sched/cputime.c: kcpustat_field_idle), and shows it in units of 10 ms.
func idleTime() (sum time.Duration, known bool, err error) {
	text, err := os.ReadFile("/proc/timer_list")
	if err != nil {
		return 0, false, err
	}
	all := idleSleeptime.FindAllSubmatch(text, -1)
	for _, m := range all {
		n, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			return 0, false, err
		}
		sum += time.Duration(n)
	}
	return sum, len(all) > 0, nil
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
