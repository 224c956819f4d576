package traffic

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// pktgenState is what /proc/net/pktgen/DEVICE says.
type pktgenState struct {
	sofar  uint64 // packets that were taken
	errors uint64 // packets that were refused, and freed
	// held: when it was stopped, pktgen had made an skb that nobody had taken
	// yet, and freed it.
	held           bool
	running, ended bool
	result         string
}

func readPktgen(device string) (pktgenState, error) {
	path := filepath.Join(pktgenDir, device)
	text, err := os.ReadFile(path)
	if err != nil {
		return pktgenState{}, err
	}
	state, err := parsePktgenState(string(text))
	if err != nil {
		return state, fmt.Errorf("read %s: %w", path, err)
	}
	return state, nil
}

// parsePktgenState reads what net/core/pktgen.c, pktgen_if_show and
// show_results, write.
func parsePktgenState(text string) (pktgenState, error) {
	var s pktgenState
	seen := 0
	fields := strings.Fields(text)
	for i := range len(fields) - 1 {
		var into *uint64
		switch fields[i] {
		case "pkts-sofar:":
			into = &s.sofar
		case "errors:":
			// Again in the result, where it is the same.
			into = &s.errors
		default:
			continue
		}
		n, err := strconv.ParseUint(fields[i+1], 10, 64)
		if err != nil {
			return s, fmt.Errorf("%s %w", fields[i], err)
		}
		*into = n
		seen++
	}
	if seen < 2 {
		return s, fmt.Errorf("no pkts-sofar and errors in %q", text)
	}
	_, result, _ := strings.Cut(text, "\nResult: ")
	s.result = strings.TrimSpace(result)
	s.running = s.result == "Starting"
	s.ended = strings.Contains(s.result, "frags)")
	// pktgen_stop_device: "-1frags" if it held none.
	s.held = s.ended && !strings.Contains(s.result, ",-1frags)")
	return s, nil
}

// counts puts it in the words of the books. The skb that was made and never
// taken was offered, and it was freed by its sender: refused.
func (s pktgenState) counts() Counts {
	c := Counts{Offered: s.sofar + s.errors, Refused: s.errors}
	if s.held {
		c.Offered++
		c.Refused++
	}
	return c
}

// pktgenDevices returns the devices of a thread, from what pktgen_thread_show
// writes.
func pktgenDevices(text string) []string {
	var devices []string
	for line := range strings.Lines(text) {
		name, list, _ := strings.Cut(line, ":")
		if name == "Running" || name == "Stopped" {
			devices = append(devices, strings.Fields(list)...)
		}
	}
	return devices
}
