package veth

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// threads are the consumer where NAPI of the far end has them: the kernel's threads that poll the far end's rings, one for
// each. They run on one CPU, and a hog there holds them up.
type threads struct {
	device string // the far end
	cpu    int    // where they run
	park   int    // where they are held up
	hogs   map[int]*hog
	tids   []int
	cpus   map[int]int      // on which each is, by its ID
	wchans map[int]*os.File // where each waits
	held   bool
}

// newThreads finds the threads, and keeps them on a CPU.
func newThreads(device string, cpu int) (*threads, error) {
	// Else a thread that is SCHED_FIFO is taken off its CPU for 50 ms each second
	// (Documentation/scheduler/sched-rt-group.rst).
	if err := os.WriteFile("/proc/sys/kernel/sched_rt_runtime_us", []byte("-1"), 0); err != nil {
		return nil, fmt.Errorf("switch RT throttling off: %w", err)
	}
	n := &threads{device: device, cpu: cpu, park: cpu, hogs: make(map[int]*hog), wchans: make(map[int]*os.File)}
	if _, err := n.hog(); err != nil {
		return nil, err
	}
	return n, n.find()
}

// hogCPU is where a consumer runs unless it is told otherwise.
func hogCPU() int { return max(runtime.NumCPU()-2, 0) }

// hog is that of the CPU.
func (n *threads) hog() (*hog, error) {
	if n.hogs[n.park] == nil {
		h, err := startHog(n.park)
		if err != nil {
			return nil, fmt.Errorf("hold up NAPI on CPU %d: %w", n.park, err)
		}
		n.hogs[n.park] = h
	}
	return n.hogs[n.park], nil
}

// find finds the threads. They are new ones when NAPI was off (net/core/dev.c:
// napi_kthread_create), and wherever the scheduler has put them.
func (n *threads) find() error {
	found, err := kernelThreads("napi/" + n.device + "-")
	if err != nil {
		return err
	}
	n.tids = slices.Collect(maps.Keys(found))
	n.cpus = make(map[int]int)
	n.closeWchans()
	for _, tid := range n.tids {
		wchan, err := os.Open(fmt.Sprintf("/proc/%d/wchan", tid))
		if err != nil {
			return err
		}
		n.wchans[tid] = wchan
	}
	return n.place()
}

// sleeps says whether a thread is on no runqueue, by its wchan (kernel/sched/core.c:
// get_wchan). What its state is does not tell: it is that of one that sleeps before it
// does.
func sleeps(wchan *os.File) bool {
	var where [64]byte
	n, err := wchan.ReadAt(where[:], 0)
	if err != nil && n == 0 {
		return !errors.Is(err, io.EOF) // it has ended
	}
	return where[0] != '0'
}

// kernelThreads finds the kernel's threads whose names begin so.
func kernelThreads(prefix string) (map[int]string, error) {
	// They are children of kthreadd.
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	found := make(map[int]string)
	for _, comm := range comms {
		// One that has ended meanwhile is none.
		name, _ := os.ReadFile(comm)
		if !strings.HasPrefix(string(name), prefix) {
			continue
		}
		tid, err := strconv.Atoi(filepath.Base(filepath.Dir(comm)))
		if err != nil {
			return nil, err
		}
		found[tid] = strings.TrimSpace(string(name))
	}
	return found, nil
}

// place puts the threads where they are to be.
func (n *threads) place() error {
	cpu := n.cpu
	if n.held {
		cpu = n.park
	}
	var set unix.CPUSet
	set.Set(cpu)
	for _, tid := range n.tids {
		if on, known := n.cpus[tid]; known && on == cpu {
			continue
		}
		err := unix.SchedSetaffinity(tid, &set)
		if err == nil {
			err = prioritise(tid, pollPriority)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("keep a thread of %s on CPU %d: %w", n.device, cpu, err)
		}
		n.cpus[tid] = cpu
	}
	return nil
}

// Pin keeps the threads on a CPU while they are not held up.
func (n *threads) Pin(cpu int) error {
	n.cpu = cpu
	if n.held {
		return nil
	}
	return n.place()
}

// Park changes the CPU on which they are held up.
func (n *threads) Park(cpu int) error {
	before := n.hogs[n.park]
	n.park = cpu
	h, err := n.hog()
	if err != nil || !n.held || h == before {
		return err
	}
	if err := errors.Join(h.take(), n.place()); err != nil {
		return err
	}
	before.leave()
	return nil
}

// Hold says whether the threads are held up: then the rings fill.
func (n *threads) Hold(on bool) error {
	h, err := n.hog()
	if err != nil {
		return err
	}
	n.held = on
	if on {
		return errors.Join(h.take(), n.place())
	}
	err = n.place()
	h.leave()
	return err
}

// Settle waits until the threads sleep: what they were woken for is done, and the
// receive sockets have it. Threads that are held up do nothing.
func (n *threads) Settle() error {
	if n.held {
		return nil
	}
	busy := 0
	if !wait(func() bool {
		busy = 0
		for _, tid := range n.tids {
			if !sleeps(n.wchans[tid]) {
				busy = tid
			}
		}
		return busy == 0
	}) {
		return fmt.Errorf("thread %d, which polls %s, has been running for %v", busy, n.device, patience)
	}
	return nil
}

func (n *threads) holds() bool { return n.held }

// Hand: those that are held up take nothing.
func (n *threads) Hand() int { return 0 }

func (n *threads) Inline() bool { return false }

func (n *threads) closeWchans() {
	for _, wchan := range n.wchans {
		wchan.Close()
	}
	clear(n.wchans)
}

func (n *threads) close() error {
	n.closeWchans()
	for _, h := range n.hogs {
		h.close()
	}
	return nil
}
