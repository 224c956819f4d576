package kernelfeature

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// lockdownPath shows the mode in brackets: "none [integrity] confidentiality"
// (security/lockdown/lockdown.c: lockdown_read).
const lockdownPath = "/sys/kernel/security/lockdown"

// LockedDown returns a *MissingError if the kernel keeps what it holds to
// itself: in mode confidentiality there is no eBPF program that reads memory, no
// tracefs, perf event, kprobe or /proc/kcore, each refused in another manner
// (include/linux/security.h: enum lockdown_reason). Mode integrity refuses
// nothing that is needed here.
func LockedDown() error {
	text, err := os.ReadFile(lockdownPath)
	if errors.Is(err, fs.ErrNotExist) { // a kernel without lockdown
		return nil
	}
	if err != nil {
		return fmt.Errorf("see whether the kernel is locked down: %w", err)
	}
	return lockedDown(string(text))
}

func lockedDown(text string) error {
	const mode = "confidentiality"
	if !strings.Contains(text, "["+mode+"]") {
		return nil
	}
	return &MissingError{
		Option: "lockdown=none", What: "eBPF programs, tracepoints and breakpoints that look into the kernel, which lockdown=confidentiality refuses",
		Err: fmt.Errorf("%s is %s", lockdownPath, strings.TrimSpace(text)),
	}
}
