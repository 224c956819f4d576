package liveness

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Rest tells when nothing moves any more. Who waits for that says what has moved:
// Check and Settle look at a device whose consumers run by themselves, and a stage
// (inject/stage) reads its device and knows how many packets are missing.
//
// Time alone would give false alarms when the host does not run a virtual CPU: the
// softirqs and the consumers on it stand still while the clock goes on. So when
// nothing has moved for a while, Rest runs the calling thread on each CPU in turn
// between two looks. Each of them then has run, and could handle what was pending
// there.
type Rest struct {
	patience time.Duration
	moved    time.Time
	visits   int
}

// NewRest begins to wait. Patience is for how long nothing may move.
func NewRest(patience time.Duration) *Rest {
	return &Rest{patience: patience, moved: time.Now()}
}

// Moved says that something has moved.
func (r *Rest) Moved() { r.moved, r.visits = time.Now(), 0 }

// Still says for how long nothing has moved, and whether that is rest.
func (r *Rest) Still() (still time.Duration, rest bool, err error) {
	still = time.Since(r.moved)
	if still >= r.patience && r.visits >= minVisits {
		return still, true, nil
	}
	if still >= r.patience/4 {
		r.visits++
		err = visitCPUs()
	}
	return still, false, err
}

// minVisits is how often every CPU must have run before nothing is said to move.
const minVisits = 10

// LongestPause is how long to pause at most between two looks, so that the visits
// are made when the patience is over.
func (r *Rest) LongestPause() time.Duration {
	return min(r.patience/(4*minVisits), 50*time.Millisecond)
}

// cpus are those that this program may run on. They are looked up when it starts,
// for its threads may be pinned later.
var cpus, cpusErr = affinity()

func affinity() (set unix.CPUSet, err error) {
	if err = unix.SchedGetaffinity(0, &set); err != nil {
		err = fmt.Errorf("look up the CPUs: %w", err)
	}
	return set, err
}

// visitCPUs runs the calling thread on each CPU that is online, and leaves it where
// it may run as it was.
func visitCPUs() error {
	if cpusErr != nil {
		return cpusErr
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := affinity()
	if err != nil {
		return err
	}
	left := cpus.Count()
	for cpu := 0; left > 0; cpu++ {
		if !cpus.IsSet(cpu) {
			continue
		}
		left--
		var one unix.CPUSet
		one.Set(cpu)
		// EINVAL: offline.
		if err := unix.SchedSetaffinity(0, &one); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("run on CPU %d: %w", cpu, err)
		}
	}
	if err := unix.SchedSetaffinity(0, &before); err != nil {
		return fmt.Errorf("run again on the CPUs as before: %w", err)
	}
	return nil
}
