package inject

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/ringproof/ringproof/internal/guest/tuntap"
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

const failslab = "/sys/kernel/debug/failslab"

// CanFailAllocations is a *tuntap.MissingError if the kernel's allocations
// cannot be made to fail for one thread alone.
func CanFailAllocations() error {
	if _, err := os.Stat(failslab); errors.Is(err, fs.ErrNotExist) {
		return &tuntap.MissingError{Option: "CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_DEBUG_FS", What: "allocations that fail", Err: err}
	} else if err != nil {
		return err
	}
	for _, setting := range []struct{ name, value string }{
		// Those that may sleep, which are what matters here, fail too.
		{"ignore-gfp-wait", "N"},
		{"verbose", "0"},
	} {
		if err := os.WriteFile(filepath.Join(failslab, setting.name), []byte(setting.value), 0); err != nil {
			return fmt.Errorf("make allocations fail: %w", err)
		}
	}
	return nil
}

// failNth does what do does while this thread's nth allocation fails
// (Documentation/fault-injection/fault-injection.rst: fail-nth).
func failNth(n int, do func() error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	nth, err := os.OpenFile(fmt.Sprintf("/proc/self/task/%d/fail-nth", unix.Gettid()), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("make allocation %d fail: %w", n, err)
	}
	defer nth.Close()
	if _, err := nth.WriteString(strconv.Itoa(n)); err != nil {
		return fmt.Errorf("make allocation %d fail: %w", n, err)
	}
	err = do()
	if _, reset := nth.WriteAt([]byte("0"), 0); reset != nil {
		return errors.Join(err, fmt.Errorf("let allocations succeed again: %w", reset))
	}
	return err
}

// failing lets a fault happen with an allocation that fails. That it is refused
// for that is no error; the device must be as it was.
func (q *Sequence) failing(n int, do func() error) error {
	err := failNth(n, do)
	// ENOBUFS is a message of netlink's, ENFILE its socket.
	for _, refused := range []error{unix.ENOMEM, unix.ENOBUFS, unix.ENFILE} {
		if errors.Is(err, refused) {
			q.steps[len(q.steps)-1] += " (refused: no memory)"
			return nil
		}
	}
	return err
}
