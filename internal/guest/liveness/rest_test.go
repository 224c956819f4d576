package liveness

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNothingIsAtRestBeforeEachCPUHasRun(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := affinity()
	if err != nil {
		t.Fatal(err)
	}
	var pinned unix.CPUSet
	for cpu := 0; pinned.Count() == 0; cpu++ {
		if cpus.IsSet(cpu) {
			pinned.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &pinned); err != nil {
		t.Fatal(err)
	}
	defer unix.SchedSetaffinity(0, &before)

	const patience = 20 * time.Millisecond
	r := NewRest(patience)
	// The clock of a guest that its host did not run.
	time.Sleep(patience)
	looks := 0
	for ; ; looks++ {
		_, over, err := r.Still()
		if err != nil {
			t.Fatal(err)
		}
		if over {
			break
		}
	}
	if looks != minVisits {
		t.Errorf("at rest after %d visits to the CPUs, want %d", looks, minVisits)
	}
	if now, err := affinity(); err != nil || now != pinned {
		t.Errorf("the thread was pinned, and may run elsewhere now: %v, %v", now, err)
	}
	r.Moved()
	if still, over, err := r.Still(); over || err != nil || still >= patience {
		t.Errorf("something has just moved: still %v, over %v, %v", still, over, err)
	}
}
