package run

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/child"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/srcline"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// Inside runs the guest's test program on the kernel that runs already, in a VM that
// somebody else has booted, and judges it as Start and Test do. The tests change network
// devices, take CPUs offline and hold others up, so this is refused where nothing says
// that the machine is there for it: see forTests.
//
// A kernel that dies takes this process with it. What was found out until then is in the
// artifacts, which say that the run has not ended.
//
// command is how this process was started, without environment and what flags says: a
// finding is replayed by it in a VM of the same kind.
func Inside(ctx context.Context, cfg Config, program, command string, flags Flags) (*report.Run, error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, fmt.Errorf("find out where this runs: %w", err)
	}
	if !forTests(string(cmdline), os.Getenv(contract.GuestEnv)) {
		return nil, fmt.Errorf("these tests change network devices and hold up CPUs, and this machine is not known to be a VM for tests: virtme-ng is recognised by its kernel arguments (vng -- ringproof inside); for another VM set %s=1", contract.GuestEnv)
	}
	if err := cfg.locateAll(); err != nil {
		return nil, err
	}
	var named known
	if cfg.Known != "" {
		if named, err = readKnown(cfg.Known); err != nil {
			return nil, err
		}
	}
	r := &Run{cfg: cfg, flags: flags, ctx: ctx, known: named}
	if err := r.openArtifacts(); err != nil {
		return nil, err
	}
	r.result = report.Run{
		Dir: cfg.Dir, Label: cfg.Label, Kernel: "(running)", Contract: cfg.Contract, Shard: cfg.Shard.String(),
		Command: cfg.command(command), Seed: cfg.Seed, Started: time.Now(), AccelReason: "booted by somebody else",
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		r.result.Release = unix.ByteSliceToString(uts.Release[:])
	}
	if notes, err := os.ReadFile("/sys/kernel/notes"); err == nil { // a kernel may have none
		r.result.BuildID = srcline.NotesBuildID(notes)
	}
	r.save()
	log, err := followLog()
	if err != nil {
		return nil, err
	}
	args, _ := flags.args("")
	ended := r.runInside(program, args)
	for _, k := range vm.KernelReports(log()) {
		if r.noise(k) == "" {
			r.add(report.Fault{Kind: report.Kernel, Test: k.Test, Title: k.Title, What: k.Title + "\n" + k.Text})
		}
	}
	if ended != nil {
		r.add(report.Fault{Kind: report.Harness, What: ended.Error()})
	}
	if cfg.Shard.Of == 0 {
		for _, f := range r.result.NoneRan() {
			r.add(f)
		}
	}
	r.result.Seconds = time.Since(r.result.Started).Seconds()
	if err := errors.Join(r.log.close(), r.result.WriteAll()); err != nil {
		r.add(report.Fault{Kind: report.SetUp, What: err.Error()})
	}
	return &r.result, nil
}

// forTests says whether a machine is there for tests that change it: virtme-ng names
// what it boots for in arguments of its own (virtme/commands/run.py), and whoever runs
// another VM sets the variable that is set in ours.
func forTests(cmdline, guestEnv string) bool {
	virtme := func(arg string) bool {
		return strings.HasPrefix(arg, "virtme_") || strings.HasPrefix(arg, "virtme.") || strings.HasSuffix(arg, "/virtme-ng-init") || strings.HasSuffix(arg, "/virtme-init")
	}
	return guestEnv == "1" || slices.ContainsFunc(strings.Fields(cmdline), virtme)
}

// runInside runs the test program to its end, or until something is overdue. The error
// says that it did not end as a test program does.
func (r *Run) runInside(program string, args []string) error {
	ctx, stop := context.WithCancel(r.ctx)
	defer stop()
	tests := exec.CommandContext(ctx, program, args...)
	tests.Env = append(append(os.Environ(), contract.GuestEnv+"=1"), r.guestEnv("")...)
	convert := exec.Command("go", "tool", "test2json", "-t")
	text, err := convert.StdinPipe()
	if err != nil {
		return err
	}
	events, err := convert.StdoutPipe()
	if err != nil {
		return err
	}
	convert.Stderr = os.Stderr
	if err := convert.Start(); err != nil {
		return fmt.Errorf("start go tool test2json: %w", err)
	}
	tests.Stdout, tests.Stderr = text, text
	ran := make(chan error, 1)
	go func() {
		err := child.Run(tests, syscall.SIGKILL, tests.Run)
		text.Close()
		ran <- err
	}()
	in := inside{run: r, checks: make(map[string]*Check), inner: make(map[string]bool), stop: stop}
	readErr := in.follow(events)
	err = <-ran
	convertErr := convert.Wait()
	left := in.left()
	var exit *exec.ExitError
	switch {
	case readErr != nil:
		return readErr
	case convertErr != nil:
		return fmt.Errorf("go tool test2json: %w", convertErr)
	case in.overdue:
		return nil // which is a verdict
	case left, err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1):
		return errors.Join(errors.New("the test program ended before its tests did"), err)
	case err != nil:
		r.Failed()
	}
	return nil
}

// inside replays the events of a test program that runs here.
type inside struct {
	run     *Run
	checks  map[string]*Check
	inner   map[string]bool // tests with subtests
	order   []string        // of those that run
	overdue bool
	stop    func()
}

func (in *inside) follow(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			_, _ = in.run.log.Write(line) // which remembers its error
			var e Event
			if err := json.Unmarshal(line, &e); err != nil {
				return fmt.Errorf("test2json said %q: %w", line, err)
			}
			if err := in.event(e); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read test events: %w", err)
		}
	}
}

func (in *inside) event(e Event) error {
	if e.Test == "" {
		return nil
	}
	parent := e.Test[:max(strings.LastIndex(e.Test, "/"), 0)]
	for in.checks[parent] == nil && parent != "" { // a name may have slashes of its own
		parent = parent[:max(strings.LastIndex(parent, "/"), 0)]
	}
	check := in.checks[e.Test]
	switch {
	case e.Action == "run":
		in.checks[e.Test] = in.run.Check(e.Test)
		in.order = append(in.order, e.Test)
		in.inner[parent] = true
	case check == nil:
	case e.Action == "output":
		if !e.Frame() {
			check.Said(strings.TrimPrefix(e.Output, "    "))
		}
	case e.Action == "attr":
		return in.attr(check, e)
	case e.ends():
		check.Ended(e.Action)
		if !in.inner[e.Test] {
			in.run.Count(e.Test, e.Action)
		}
		if e.Action == "fail" && in.checks[parent] != nil {
			in.checks[parent].Told()
		}
		in.order = slices.DeleteFunc(in.order, func(test string) bool { return test == e.Test })
	}
	return nil
}

func (in *inside) attr(check *Check, e Event) error {
	what, err := check.Attribute(e.Key, e.Value)
	switch what := what.(type) {
	case contract.Finding:
		in.run.Finding(e.Test, what)
	case contract.Overdue:
		check.Overdue("")
		in.overdue = true
		in.stop()
	}
	return err
}

// left ends what the test program has left open, the innermost test first, and says
// whether there was any.
func (in *inside) left() bool {
	for _, test := range slices.Backward(in.order) {
		const why = "the test program ended early"
		if !in.inner[test] {
			in.checks[test].Ended(why)
			in.run.Count(test, "fail")
		}
		if !strings.Contains(test, "/") {
			in.run.Lost(test, why)
		}
	}
	return len(in.order) > 0
}

// followLog reads the kernel's log from now on. What it returns ends that, and returns
// the messages (Documentation/ABI/testing/dev-kmsg), a line each.
func followLog() (func() string, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read the kernel's log: open /dev/kmsg: %w", err)
	}
	if _, err := unix.Seek(fd, 0, io.SeekEnd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("read the kernel's log: %w", err)
	}
	var text strings.Builder
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		defer unix.Close(fd)
		record := make([]byte, 16<<10)
		for ended := false; ; {
			n, err := unix.Read(fd, record)
			switch {
			case err == nil:
				text.WriteString(message(string(record[:n])))
			case err == unix.EPIPE: // older records were overwritten: the next are there
			case ended:
				return
			default:
				select {
				case <-stop:
					ended = true
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
	})
	return func() string {
		close(stop)
		done.Wait()
		return text.String()
	}, nil
}

// message is the message of a record, as a line.
func message(record string) string {
	_, text, _ := strings.Cut(record, ";")
	line, _, _ := strings.Cut(text, "\n") // what follows is a dictionary
	return line + "\n"
}
