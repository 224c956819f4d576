package vhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// owning serialises what makes workers, so that each is known by its having
// come.
var owning sync.Mutex

// ownerOf runs own, which makes a worker, and returns that one's thread ID.
func ownerOf(own func() error) (worker int, err error) {
	owning.Lock()
	defer owning.Unlock()
	before, err := workers()
	if err != nil {
		return 0, err
	}
	if err := own(); err != nil {
		return 0, err
	}
	after, err := workers()
	if err != nil {
		return 0, err
	}
	for tid := range after {
		if !before[tid] {
			return tid, nil
		}
	}
	return 0, errors.New("find the worker of vhost-net: there is no new thread vhost-*")
}

// workers are the threads that are named as vhost names its own
// (drivers/vhost/vhost.c: vhost_worker_create): this process's or, before Linux
// 6.4, the kernel's.
func workers() (map[int]bool, error) {
	found := make(map[int]bool)
	for _, pattern := range []string{"/proc/self/task/[0-9]*/comm", "/proc/[0-9]*/comm"} {
		comms, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range comms {
			// One that has ended meanwhile is none.
			comm, err := os.ReadFile(path)
			if err != nil || !strings.HasPrefix(string(comm), "vhost-") {
				continue
			}
			tid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				return nil, fmt.Errorf("find the worker of vhost-net: %s: %w", path, err)
			}
			found[tid] = true
		}
	}
	return found, nil
}
