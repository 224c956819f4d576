package traffic

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// PktgenResult is what one of pktgen's threads says when it has ended.
type PktgenResult struct {
	// Sent are the packets that were taken, and Errors those that were refused, and
	// freed.
	Sent, Errors uint64
	// Bytes of each, from the Ethernet header on.
	Bytes int
	// Took is the time from start to end.
	Took time.Duration
}

// net/core/pktgen.c: show_results.
var pktgenResult = regexp.MustCompile(`OK: (\d+)\(c\d+\+d\d+\) usec, (\d+) \((\d+)byte,-?\d+frags\)\s+\d+pps \d+Mb/sec \(\d+bps\) errors: (\d+)`)

// ParsePktgenResults finds the result of each thread in what pktgen has written: in
// /proc/net/pktgen/DEVICE, or in what prints that. One that is no result of packets sent,
// and a text without any, is an error.
func ParsePktgenResults(text string) (results []PktgenResult, err error) {
	for i, part := range strings.Split(text, "Result: ") {
		if i == 0 {
			continue
		}
		m := pktgenResult.FindStringSubmatch(part)
		if m == nil || !strings.HasPrefix(part, m[0]) {
			return nil, fmt.Errorf("pktgen has sent nothing: its result is %q", strings.TrimSpace(part))
		}
		var n [4]uint64
		for j := range n {
			if n[j], err = strconv.ParseUint(m[j+1], 10, 63); err != nil {
				return nil, fmt.Errorf("read pktgen's result %q: %w", m[0], err)
			}
		}
		results = append(results, PktgenResult{Sent: n[1], Errors: n[3], Bytes: int(n[2]), Took: time.Duration(n[0]) * time.Microsecond})
	}
	if results == nil {
		return nil, fmt.Errorf("pktgen has written no result: %q", text)
	}
	return results, nil
}
