// Package lockdown knows what the running kernel's lockdown keeps root from
// doing (kernel_lockdown(7)).
package lockdown

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/ringproof/ringproof/internal/guest/tuntap"
)

// path shows the mode in brackets: "none [integrity] confidentiality"
// (security/lockdown/lockdown.c: lockdown_read).
const path = "/sys/kernel/security/lockdown"

// Reading returns a *tuntap.MissingError if the kernel keeps what it holds to
// itself: in mode confidentiality there is no eBPF program that reads memory, no
// tracefs, perf event, kprobe or /proc/kcore, each refused in another manner
// (include/linux/security.h: enum lockdown_reason). Mode integrity refuses
// nothing that is needed here.
func Reading() error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) { // a kernel without lockdown
		return nil
	}
	if err != nil {
		return fmt.Errorf("see whether the kernel is locked down: %w", err)
	}
	return reading(string(text))
}

func reading(text string) error {
	const mode = "confidentiality"
	if !strings.Contains(text, "["+mode+"]") {
		return nil
	}
	return &tuntap.MissingError{
		Option: "lockdown=none", What: "eBPF programs, tracepoints and breakpoints that look into the kernel, which lockdown=confidentiality refuses",
		Err: fmt.Errorf("%s is %s", path, strings.TrimSpace(text)),
	}
}
