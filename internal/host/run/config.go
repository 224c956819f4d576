package run

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// Config says what to run on what. ConfigFromEnv documents each field's
// variable.
type Config struct {
	Kernel    string
	Modules   string
	Vmlinux   string
	Driver    string
	Contract  contract.Contract
	Accel     vm.Accel
	CPUs      int
	MemoryMiB int
	Append    []string
	Dir       string
	Label     string
	Seed      uint64
	Faults    time.Duration
	// Baseline is how long each method of TestBaseline has; 0 leaves it out.
	Baseline  time.Duration
	Schedules string
	Replays   int
	Known     string
	Shard     contract.Shard

	// Package is the Go package with the guest's tests, and Module the
	// directory of the module that it is looked up in. Suite are those tests, in the
	// order in which they run.
	Package, Module string
	Suite           []string
}

// ConfigFromEnv reads the environment:
//
//	KERNEL     bzImage to boot; unset is the default kernel, which must have
//	           been built
//	MODULES    directory with the kernel's modules, as INSTALL_MOD_PATH of
//	           "make modules_install", if tun is one
//	VMLINUX    the vmlinux of that bzImage, to name functions
//	DRIVER     the driver under test: tun (default), veth, or all
//	CONTRACT   what to expect: auto (default), stock, lossless, rare-drop, opt-in
//	ACCEL      auto (default), kvm, tcg
//	QEMU       the QEMU to use, an absolute path or a name in PATH; VMTEST_QEMU,
//	           which may have arguments, is heeded, too
//	CPUS       virtual CPUs (4)
//	MEM        the guest's memory in MiB (1024)
//	APPEND     further kernel arguments, separated by spaces
//	SEED       what random sequences of faults are made from (the time of day)
//	FAULTS     for how long there are new ones, for example 1h (5s)
//	BASELINE   for how long TestBaseline gives each of its methods; without it
//	           that is left out
//	BASELINE_CONTROL "no" leaves out of that what changes the device, or trims packets
//	SCHEDULES  "all" to run schedules in all settings, for hours
//	REPLAYS    how often what breaks a promise is run again before it is
//	           reported (10)
//	KNOWN      file with regular expressions, one a line, for reports of the
//	           kernel that are known and decide nothing; # begins a comment
//	SHARD      "1/3" to run the first of three parts of the tests (all)
//	ARTIFACTS  directory for this run's artifacts; it must be empty or not
//	           exist (artifacts/DATE-TIME-PID in the module's root)
//
// A relative path is relative to the directory in which the command was typed:
// see typedIn.
func ConfigFromEnv() (Config, error) {
	c := Config{
		Kernel:  os.Getenv("KERNEL"),
		Modules: os.Getenv("MODULES"),
		Vmlinux: os.Getenv("VMLINUX"),
		Accel:   vm.Accel(os.Getenv("ACCEL")),
		Append:  strings.Fields(os.Getenv("APPEND")),
		Dir:     os.Getenv("ARTIFACTS"),
		Label:   os.Getenv("RINGPROOF_LABEL"),
		Known:   os.Getenv("KNOWN"),
	}
	var err error
	if c.Contract, err = contract.Parse(os.Getenv("CONTRACT")); err != nil {
		return c, err
	}
	if c.Driver, err = contract.ParseDriver(os.Getenv("DRIVER")); err != nil {
		return c, err
	}
	if c.CPUs, err = positive("CPUS"); err != nil {
		return c, err
	}
	if c.MemoryMiB, err = positive("MEM"); err != nil {
		return c, err
	}
	if c.Replays, err = positive("REPLAYS"); err != nil {
		return c, err
	}
	if c.Replays == 0 {
		c.Replays = 10
	}
	if c.Shard, err = contract.ParseShard(os.Getenv("SHARD")); err != nil {
		return c, fmt.Errorf("SHARD: %w", err)
	}
	c.Seed = uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		if c.Seed, err = strconv.ParseUint(text, 0, 64); err != nil || c.Seed == 0 {
			return c, fmt.Errorf("SEED=%q: must be a number from 1 on", text)
		}
	}
	if c.Schedules = os.Getenv("SCHEDULES"); c.Schedules != "" && c.Schedules != "all" {
		return c, fmt.Errorf("SCHEDULES=%q: must be \"all\" or not set", c.Schedules)
	}
	c.Faults = 5 * time.Second
	if text := os.Getenv("FAULTS"); text != "" {
		if c.Faults, err = time.ParseDuration(text); err != nil || c.Faults <= 0 {
			return c, fmt.Errorf("FAULTS=%q: must be a duration, for example 1h", text)
		}
	}
	if text := os.Getenv("BASELINE"); text != "" {
		if c.Baseline, err = time.ParseDuration(text); err != nil || c.Baseline <= 0 {
			return c, fmt.Errorf("BASELINE=%q: must be a duration, for example 10s", text)
		}
	}
	return c, nil
}

// settings are the variables that a command which replays a run repeats as they are.
var settings = []string{"DRIVER", "CONTRACT", "ACCEL", "QEMU", "VMTEST_QEMU", "CPUS", "MEM", "APPEND", "FAULTS", "SCHEDULES", "REPLAYS", "BASELINE", "BASELINE_CONTROL"}

// Variables are all that ConfigFromEnv reads.
func Variables() []string {
	return append([]string{"KERNEL", "MODULES", "VMLINUX", "KNOWN", "ARTIFACTS", "SEED", "SHARD"}, settings...)
}

// positive reads a number; 0 if the variable is not set.
func positive(name string) (int, error) {
	text := os.Getenv(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s=%q: must be a number from 1 on", name, text)
	}
	return n, nil
}

// Flags are those of go test that the guest's test binary is to heed.
type Flags struct {
	Run, Skip       string
	Short, FailFast bool
	Count           int
	// Deadline is when go test gives up on the host; zero if it does not.
	Deadline time.Time
}

// How long before go test's own deadline the guest's tests and the VM have
// theirs: the first prints goroutines, the second asks for the kernel's
// stacks, and the host then writes it all down.
const (
	guestMargin = 20 * time.Second
	vmMargin    = 10 * time.Second
)

// schedulePattern matches the first part of a schedule's id, whose "+" means
// something else in a regular expression.
var schedulePattern = regexp.MustCompile(`[\w.]+\+0x[0-9a-f]+([&~@][\w.]+\+0x[0-9a-f]+(:\d+)?)*`)

// Pattern is what -run means: the id of a schedule stands for itself.
func Pattern(run string) string {
	return schedulePattern.ReplaceAllStringFunc(run, func(place string) string { return "^" + regexp.QuoteMeta(place) + "$" })
}

// args are the guest's arguments and the VM's deadline (0 is none). skip, if
// not "", is a pattern on top of the user's.
func (f *Flags) args(skip string) (args []string, deadline time.Duration) {
	args = []string{"-test.v=test2json", "-test.paniconexit0", "-test.run=" + f.Run, "-test.count=" + strconv.Itoa(f.Count)}
	if f.Skip != "" && skip != "" {
		skip = f.Skip + "|" + skip
	} else {
		skip += f.Skip
	}
	if skip != "" {
		args = append(args, "-test.skip="+skip)
	}
	if f.Short {
		args = append(args, "-test.short")
	}
	if f.FailFast {
		args = append(args, "-test.failfast")
	}
	guest := time.Duration(0) // no timeout
	if !f.Deadline.IsZero() {
		left := time.Until(f.Deadline)
		// A -timeout that is shorter than the margins still gets its report.
		deadline = max(left-vmMargin, left*3/4)
		guest = max(left-guestMargin, left/2)
	}
	return append(args, "-test.timeout="+guest.String()), deadline
}
