package netdev

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/guest/rcu"
)

// SettleBacklog waits until no CPU has packets left that netif_rx() has queued on it, and
// the last one has been received. The softirq that receives them may be pending for long: a
// CPU that sleeps holds up no grace period, and its interrupt comes when the host runs it.
func SettleBacklog() error {
	const patience = 10 * time.Second
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		waiting, err := backlog()
		if err != nil {
			return err
		}
		if waiting == 0 {
			rcu.Synchronize() // the last one is on its way
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("%d packets have waited to be received for %v (%s)", waiting, patience, softnetStat)
		}
	}
}

// softnetStat has a line for each CPU (net/core/net-procfs.c: softnet_seq_show).
const softnetStat = "/proc/net/softnet_stat"

// backlog is how many packets wait, on all CPUs.
func backlog() (waiting uint64, err error) {
	const column = 11
	text, err := os.ReadFile(softnetStat)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) <= column {
			return 0, fmt.Errorf("%s has %d columns, and no backlog (Linux 5.10 and later have it)", softnetStat, len(fields))
		}
		n, err := strconv.ParseUint(fields[column], 16, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", softnetStat, err)
		}
		waiting += n
	}
	return waiting, nil
}
