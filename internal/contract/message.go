package contract

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// PortName is the virtio-serial port over which the guest's init sends Events.
const PortName = "ringproof"

// GuestEnv is set to "1" in the environment of the program that the guest's
// init runs: tests that change network devices skip without it.
const GuestEnv = "RINGPROOF_GUEST"

// Event is one message from the guest's init to the host, one line of JSON.
// Exactly one field is set.
type Event struct {
	// Hello is the first event.
	Hello *Hello `json:",omitempty"`
	// Output is what the program wrote to stdout or stderr, at most 16 KiB.
	Output []byte `json:",omitempty"`
	// Alive is sent once a second, so that a guest that has stopped
	// answering is told apart from a quiet one.
	Alive bool `json:",omitempty"`
	// Exit is the last event.
	Exit *Exit `json:",omitempty"`
}

// Hello says what booted.
type Hello struct {
	Release string // uname -r
	Version string // uname -v
	// Preemption is the preemption model, named as in Kconfig: PREEMPT_NONE,
	// PREEMPT_VOLUNTARY, PREEMPT, PREEMPT_LAZY or PREEMPT_RT. "(PREEMPT_DYNAMIC)"
	// follows if it was chosen at boot. Where the kernel does not tell which of
	// two it is, both are named.
	Preemption string
	CPUs       int // online
	// Uptime is the time since the boot, by the guest's clock.
	Uptime time.Duration
	// Notes are the running kernel's ELF notes (/sys/kernel/notes), in which its
	// build id is.
	Notes []byte `json:",omitempty"`
	// Modules that were wanted and did not load, or could not be put into the
	// image, each with the reason: "tun: exec format error; version magic ...".
	ModuleErrors []string `json:",omitempty"`
}

// Exit says how the program that Boot asked for ended.
type Exit struct {
	Code   int    // exit status; 0 unless it exited
	Signal string `json:",omitempty"` // name of the signal that ended it
	Error  string `json:",omitempty"` // why it could not be started
}

// Boot is what the host asks the guest's init to run. It travels on the
// kernel command line, so that the QEMU command that a run prints reproduces
// the run, or in the image if it is too long for that.
type Boot struct {
	Argv []string // program, by its absolute path in the image, and arguments
	Env  []string // NAME=value, in addition to init's own
}

// bootParam is its name on the command line; the dot keeps the kernel from
// handing it to init as an argument (init/main.c: unknown_bootoption).
const bootParam = "ringproof.boot="

// BootFile is the file of the image that holds a Boot, as JSON, if BootFileArg is
// the kernel's command-line argument.
const (
	BootFile    = "/ringproof.boot"
	BootFileArg = bootParam + BootFile
)

// KernelArg returns b as a kernel command-line argument.
func (b Boot) KernelArg() (string, error) {
	data, err := json.Marshal(b)
	if err != nil {
		return "", fmt.Errorf("encode what the guest shall run: %w", err)
	}
	return bootParam + base64.RawURLEncoding.EncodeToString(data), nil
}

// ParseBoot finds the Boot in the text of /proc/cmdline; readFile is os.ReadFile
// of the guest.
func ParseBoot(cmdline string, readFile func(string) ([]byte, error)) (Boot, error) {
	var b Boot
	for _, arg := range strings.Fields(cmdline) {
		value, ok := strings.CutPrefix(arg, bootParam)
		if !ok {
			continue
		}
		data, err := []byte(nil), error(nil)
		if value == BootFile {
			data, err = readFile(value)
		} else {
			data, err = base64.RawURLEncoding.DecodeString(value)
		}
		if err != nil {
			return b, fmt.Errorf("decode %s: %w", bootParam, err)
		}
		if err := json.Unmarshal(data, &b); err != nil {
			return b, fmt.Errorf("decode %s: %w", bootParam, err)
		}
		if len(b.Argv) == 0 {
			return b, fmt.Errorf("%s names no program", bootParam)
		}
		return b, nil
	}
	return b, fmt.Errorf("no %s on the kernel command line", bootParam)
}

// The guest brackets each test with a line in the kernel log, so that what
// the kernel reports on the console belongs to a test without guessing.
// "<3>" is KERN_ERR, the least urgent level that "quiet" still shows
// (include/linux/printk.h: CONSOLE_LOGLEVEL_QUIET).
const (
	markBegin = "ringproof: begin "
	markEnd   = "ringproof: end "
)

// MarkBegin is what a test writes to /dev/kmsg when it starts.
func MarkBegin(test string) string { return "<3>" + markBegin + test + "\n" }

// MarkEnd is what a test writes to /dev/kmsg when it has ended.
func MarkEnd(test string) string { return "<3>" + markEnd + test + "\n" }

// ParseMark recognises a line of the console that holds a mark, whatever
// timestamp precedes it.
func ParseMark(line string) (test string, begin, ok bool) {
	if _, test, ok = strings.Cut(line, markBegin); ok {
		return strings.TrimSpace(test), true, true
	}
	if _, test, ok = strings.Cut(line, markEnd); ok {
		return strings.TrimSpace(test), false, true
	}
	return "", false, false
}

// NoTime is why a check was not run for which go test's -timeout leaves no time.
const NoTime = "go test's -timeout leaves no time"

// AfterDeath ends the reason why a promise is undecided, if the guest died before all its
// checks had run.
const AfterDeath = "; the checks after it did not run"
