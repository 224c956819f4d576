package fault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/rcu"
	"golang.org/x/sys/unix"
)

// allocations are those that can fail of what a fault does, counted from its
// beginning: those of netlink's socket and message come first.
var allocations = func() (n []int) {
	for i := 1; i <= 40; i++ {
		n = append(n, i)
	}
	return n
}()

// failures are the files that say which allocations can fail.
const failures = "/sys/kernel/debug"

// CanFail is a *kernelfeature.MissingError if the kernel's allocations
// cannot be made to fail for one thread alone.
func CanFail() error {
	for _, setting := range []struct{ path, value string }{
		// Those that may sleep, which are what matters here, fail too.
		{"failslab/ignore-gfp-wait", "N"},
		{"failslab/verbose", "0"},
		{"fail_page_alloc/ignore-gfp-wait", "N"},
		{"fail_page_alloc/min-order", "0"},
		{"fail_page_alloc/verbose", "0"},
	} {
		err := os.WriteFile(filepath.Join(failures, setting.path), []byte(setting.value), 0)
		if errors.Is(err, fs.ErrNotExist) {
			return &kernelfeature.MissingError{Option: "CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC and CONFIG_FAULT_INJECTION_DEBUG_FS", What: "allocations that fail", Err: err}
		}
		if err != nil {
			return fmt.Errorf("make allocations fail: %w", err)
		}
	}
	return nil
}

// failNth does what do does while this thread's nth allocation fails
// (Documentation/fault-injection/fault-injection.rst: fail-nth), and says
// whether there were so many.
func failNth(n int, do func() error) (failed bool, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	nth, err := os.OpenFile(fmt.Sprintf("/proc/self/task/%d/fail-nth", unix.Gettid()), os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("make allocation %d fail: %w", n, err)
	}
	defer nth.Close()
	if _, err := nth.WriteString(strconv.Itoa(n)); err != nil {
		return false, fmt.Errorf("make allocation %d fail: %w", n, err)
	}
	err = do()
	var left [16]byte
	size, reading := nth.ReadAt(left[:], 0)
	if reading == io.EOF {
		reading = nil
	}
	_, reset := nth.WriteAt([]byte("0"), 0)
	if errs := errors.Join(reading, reset); errs != nil {
		return false, errors.Join(err, fmt.Errorf("let allocations succeed again: %w", errs))
	}
	return strings.TrimSpace(string(left[:size])) == "0", err
}

// failing lets a fault happen with an allocation that fails. That it is refused
// for that is no error; the device must be as it was.
func (q *Sequence) failing(n int, do func() error) error {
	failed, err := failNth(n, do)
	if !failed {
		q.note(" (it makes fewer)")
		return err
	}
	// ENOBUFS is a message of netlink's, ENFILE its socket, a file without
	// deadlines one that epoll had no memory for, and EPERM what becomes of a
	// driver's ENOMEM on its way through a notifier (drivers/net/tun.c:
	// tun_device_event).
	for _, refused := range []error{unix.ENOMEM, unix.ENOBUFS, unix.ENFILE, unix.EPERM, os.ErrNoDeadline} {
		if errors.Is(err, refused) {
			q.note(" (refused)")
			return nil
		}
	}
	return err
}

// again does once more what was refused for want of memory: an mq has a qdisc for
// each of 256 txqs, and those of the one before may still be on their way to be
// freed. The device is as it was.
func (q *Sequence) again(do func() error) error {
	err := do()
	if !errors.Is(err, unix.ENOMEM) {
		return err
	}
	rcu.Synchronize()
	if err = do(); errors.Is(err, unix.ENOMEM) {
		return &driver.RefusedError{Why: "no memory"}
	}
	return err
}
