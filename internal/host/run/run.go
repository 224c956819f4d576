// Package run carries out one run: it checks what it was given, builds the
// image, boots VMs, hands the events of each test to whoever replays it on the
// host, and writes the artifacts.
//
// A run's directory holds
//
//	events.jsonl   every event of every test as it came, as go tool test2json
//	               writes them
//	verdict.json   report.Run
//	verdict.txt    the same for people
//	vm-N/          of each VM: console.log, and command.sh that boots it again;
//	               initramfs.cpio if what it runs is too long for the command line
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/source"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// Run is one run.
type Run struct {
	cfg   Config
	flags Flags
	// kernel is what the header of cfg.Kernel says.
	kernel kernel.Image
	image  string
	log    *artifact // events.jsonl
	ctx    context.Context
	stop   context.CancelFunc
	known  known

	mu      sync.Mutex
	lines   *source.Lines // of VMLINUX, once they are wanted
	noLines error         // why there are none
	report  report.Run
	saved   time.Time // when the report was last written
	guests  []*Guest
}

// Start prepares a run: an error says what is wrong with what it was given.
// Finish it. Until then ^C, SIGTERM and the death of the process that started this
// one end its VMs, and not the process, which has time to write down what there is.
func Start(cfg Config, flags Flags) (_ *Run, err error) {
	if err := kernel.CheckHost(); err != nil {
		return nil, err
	}
	started := time.Now()
	if cfg.Kernel == "" {
		if cfg, err = withDefaultKernel(cfg); err != nil {
			return nil, err
		}
	}
	if err := cfg.locateAll(); err != nil {
		return nil, err
	}
	image, err := kernel.Inspect(cfg.Kernel)
	if err != nil {
		return nil, fmt.Errorf("KERNEL: %w", err)
	}
	if cfg.Vmlinux != "" {
		if err := source.Check(cfg.Vmlinux); err != nil {
			return nil, err
		}
	}
	var named known
	if cfg.Known != "" {
		if named, err = readKnown(cfg.Known); err != nil {
			return nil, err
		}
	}
	ctx, stop := untilEnded()
	r := &Run{cfg: cfg, flags: flags, kernel: image, ctx: ctx, stop: stop, known: named}
	r.image, _, err = initramfs.Build(ctx, initramfs.Options{
		Package: cfg.Package, Dir: cfg.Module, Modules: cfg.Modules, Release: image.Release, Progress: os.Stderr,
	})
	if err != nil {
		stop()
		return nil, err
	}
	if cfg.Dir == "" {
		name := fmt.Sprintf("%s-%d", started.Format("2006-01-02T15-04-05"), os.Getpid())
		r.cfg.Dir = filepath.Join(cfg.Module, "artifacts", name)
	}
	if err := r.openArtifacts(); err != nil {
		stop()
		return nil, err
	}
	r.report = report.Run{
		Dir: r.cfg.Dir, Label: cfg.Label, Kernel: cfg.Kernel,
		Contract: cfg.Contract, Command: cfg.command(), Seed: cfg.Seed, Started: started,
	}
	r.save()
	return r, nil
}

// Refuse writes down why a run could not start, if a directory for its artifacts was
// named that holds none of another run, and returns what to tell the user.
func Refuse(cfg Config, why error) error {
	said := fmt.Errorf("fault of the set-up: %w", why)
	if !filepath.IsAbs(cfg.Dir) {
		return said
	}
	if entries, err := os.ReadDir(cfg.Dir); len(entries) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		return said
	}
	refused := report.Run{
		Dir: cfg.Dir, Label: cfg.Label, Kernel: cfg.Kernel, Contract: cfg.Contract, Command: cfg.command(), Started: time.Now(),
		Errors: []report.Fault{{Kind: report.SetUp, What: why.Error()}},
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return errors.Join(said, err)
	}
	if err := refused.Write(); err != nil {
		return errors.Join(said, err)
	}
	return said
}

// saveEvery is how much may be lost of what was found out if the run is killed.
const saveEvery = 2 * time.Second

// save writes what there is so far, for the case that the process is killed. A
// failure shows again when the run ends.
func (r *Run) save() {
	if r.log == nil || time.Since(r.saved) < saveEvery {
		return // there are no artifacts, or nothing much is new
	}
	r.saved = time.Now()
	sofar := r.report
	sofar.Seconds = time.Since(sofar.Started).Seconds()
	sofar.Errors = append(slices.Clone(sofar.Errors), report.Fault{Kind: report.SetUp, What: "the run has not ended: it is at work, or was killed"})
	_ = sofar.Write()
}

// withDefaultKernel fills in the kernel that is used without KERNEL.
func withDefaultKernel(cfg Config) (Config, error) {
	spec := kernel.Spec{Series: []string{filepath.Join(cfg.Module, "patches", "designs", "lossless")}}
	k, err := kernel.Find(context.Background(), spec)
	if err != nil || k == nil {
		return cfg, errors.Join(errors.New(`no KERNEL given, and the default kernel (Debian's linux-source-6.12 with patches/designs/lossless) is not built.
Give the bzImage of a patched kernel:    KERNEL=~/linux/arch/x86/boot/bzImage go test ./vmtests
or build the default and a stock kernel: make check`), err)
	}
	cfg.Kernel, cfg.Modules, cfg.Vmlinux = k.Image, k.Modules, k.Vmlinux
	return cfg, nil
}

// command is report.Run's Command.
func (c *Config) command() string {
	words := []string{"KERNEL=" + vm.Quote(c.Kernel)}
	given := func(name, value string) {
		if value != "" {
			words = append(words, name+"="+vm.Quote(value))
		}
	}
	given("MODULES", c.Modules)
	given("VMLINUX", c.Vmlinux)
	given("KNOWN", c.Known)
	for _, name := range []string{"CONTRACT", "ACCEL", "QEMU", "VMTEST_QEMU", "CPUS", "MEM", "APPEND", "FAULTS", "SCHEDULES", "REPLAYS"} {
		given(name, os.Getenv(name))
	}
	return strings.Join(append(words, "go test ./vmtests"), " ")
}

func (r *Run) openArtifacts() error {
	dir := r.cfg.Dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of artifacts: %w; ARTIFACTS= names another", err)
	}
	if entries, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("artifacts: %w", err)
	} else if len(entries) > 0 {
		return fmt.Errorf("artifacts: %s is not empty, and one directory holds one run; name another with ARTIFACTS=", dir)
	}
	var err error
	r.log, err = createArtifact(filepath.Join(dir, "events.jsonl"))
	return err
}

// Test returns the next execution of a top-level test, in the VM that runs
// all tests, or, if that one ended without it, in one of its own. others are
// the names of all other top-level tests. The error says why there is none.
func (r *Run) Test(name string, others []string) (*Stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.guests) == 0 {
		return r.first(name)
	}
	last := r.guests[len(r.guests)-1]
	if s := last.take(name); s != nil {
		return s, nil
	}
	r.gone(last)
	return r.alone(name, "", others)
}

// Resume runs a top-level test in another VM, in which its subtests up to after
// skip themselves.
func (r *Run) Resume(name, after string, others []string) (*Stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alone(name, after, others)
}

// first boots the VM that runs all tests.
func (r *Run) first(name string) (*Stream, error) {
	return r.in(r.flags, "", "", name)
}

// alone boots a VM for one top-level test.
func (r *Run) alone(name, after string, others []string) (*Stream, error) {
	r.saved = time.Time{} // booting takes its time
	r.save()
	flags, skip := r.flags, ""
	if !flags.Deadline.IsZero() && time.Until(flags.Deadline) < guestMargin {
		err := errors.New("go test's -timeout leaves no time for another VM: this test has not run")
		r.add(report.Fault{Kind: report.SetUp, Test: name, What: err.Error()})
		return nil, err
	}
	flags.Count = 1
	for _, other := range others {
		skip = strings.TrimPrefix(skip+"|^"+other+"$", "|")
	}
	return r.in(flags, skip, after, name)
}

// in boots a VM and returns the first execution of a test in it.
func (r *Run) in(flags Flags, skip, after, name string) (*Stream, error) {
	g, err := r.boot(&flags, skip, after)
	if err != nil {
		r.add(report.Fault{Kind: report.SetUp, Test: name, What: err.Error()})
		r.lost(name, err.Error())
		return nil, err
	}
	s := g.take(name)
	if s == nil {
		why, whose := g.Death()
		if why == "" {
			why, whose = "the guest has no test of that name", report.Harness
		}
		r.add(report.Fault{Kind: whose, Test: name, What: why})
		title, _, _ := strings.Cut(why, "\n")
		r.lost(name, title)
		return nil, errors.New(why)
	}
	return s, nil
}

// gone records that a guest's test program has ended before its time, if no test
// was there to tell it: one that panics ends its test first.
func (r *Run) gone(g *Guest) {
	if r.ctx.Err() != nil || g.mourned {
		return
	}
	if why, whose := g.Death(); why != "" {
		title, _, _ := strings.Cut(why, "\n")
		r.add(report.Fault{Kind: whose, What: why})
		r.lost("", title)
	}
}

func (r *Run) boot(flags *Flags, skip, after string) (*Guest, error) {
	if r.ctx.Err() != nil {
		return nil, context.Cause(r.ctx)
	}
	args, deadline := flags.args(skip)
	env := []string{
		"CONTRACT=" + string(r.cfg.Contract),
		fmt.Sprintf("SEED=%d", r.cfg.Seed), fmt.Sprintf("FAULTS=%v", r.cfg.Faults),
		"SCHEDULES=" + r.cfg.Schedules, fmt.Sprintf("REPLAYS=%d", r.cfg.Replays),
	}
	if after != "" {
		env = append(env, "AFTER="+after)
	}
	// How each test shall end early, to see what becomes of its verdicts.
	if how := os.Getenv("RINGPROOF_END"); how != "" {
		env = append(env, "RINGPROOF_END="+how)
	}
	g, err := start(r.ctx, vm.Config{
		Kernel: r.cfg.Kernel, Vmlinux: r.cfg.Vmlinux, Initramfs: r.image,
		Boot: contract.Boot{
			Argv: append([]string{initramfs.Program}, args...),
			Env:  env,
		},
		Accel: r.cfg.Accel, CPUs: r.cfg.CPUs, MemoryMiB: r.cfg.MemoryMiB, Append: r.cfg.Append, CommandLine: r.kernel.CommandLine,
		Deadline: deadline,
		Dir:      filepath.Join(r.cfg.Dir, fmt.Sprintf("vm-%d", len(r.guests)+1)),
		Progress: os.Stderr,
	}, r.log)
	if err != nil {
		return nil, err
	}
	r.guests = append(r.guests, g)
	return g, nil
}

// Verdict records what a test found out about a promise.
func (r *Run) Verdict(v contract.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Verdicts = append(r.report.Verdicts, v)
	r.save()
}

// Unknown records ways to free a packet that are not known to the guest's ledger.
func (r *Run) Unknown(paths contract.Paths) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.AddUnknown(paths)
}

// Finding records what breaks a promise, and returns what the guest cannot know:
// the command that replays it, and where in the source it is, as far as VMLINUX
// tells and it is at a place in particular.
func (r *Run) Finding(f contract.Finding) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.Replay = r.report.ReplayFinding(&f)
	r.report.Findings = append(r.report.Findings, f)
	return strings.TrimSuffix(fmt.Sprintf("replay: %s\n%s", f.Replay, r.where(f)), "\n")
}

func (r *Run) where(f contract.Finding) string {
	if f.From.Addr == 0 {
		return ""
	}
	if r.cfg.Vmlinux == "" {
		return "source lines: give the kernel's ELF file as VMLINUX="
	}
	lines, err := r.openLines()
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, place := range []contract.Place{f.From, f.To} {
		frames, err := lines.At(place.Addr)
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&b, "%s is in", place.Name)
		for i, frame := range frames {
			if i > 0 {
				b.WriteString(", inlined in")
			}
			fmt.Fprintf(&b, " %v", frame)
		}
		b.WriteString("\n")
		// Of the chain, a header's inline function says least.
		for _, frame := range frames {
			if !strings.HasSuffix(frame.File, ".h") {
				b.WriteString(lines.Context(frame, 2))
				break
			}
		}
		if f.Points == 1 {
			break
		}
	}
	return b.String()
}

// openLines reads VMLINUX, once for a run: that of a distribution's kernel has
// a gigabyte.
func (r *Run) openLines() (*source.Lines, error) {
	for _, g := range r.guests {
		if err := g.notOf(); err != nil {
			return nil, err
		}
	}
	if r.lines == nil && r.noLines == nil {
		r.lines, r.noLines = source.Open(r.cfg.Vmlinux)
	}
	return r.lines, r.noLines
}

// Fault records what is wrong with the run, other than a broken promise.
func (r *Run) Fault(f report.Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(f)
}

// add records a fault, once: what the kernel reports again in the same test is in
// the test's output.
func (r *Run) add(f report.Fault) {
	same := func(other report.Fault) bool {
		return other == f || f.Title != "" && other.Title == f.Title && other.Test == f.Test
	}
	if !slices.ContainsFunc(r.report.Errors, same) {
		r.report.Errors = append(r.report.Errors, f)
	}
}

// Lost records that a guest died in a top-level test: the checks that did not
// run decide nothing, for any promise.
func (r *Run) Lost(test, why string) {
	title, _, _ := strings.Cut(why, "\n")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost(test, title)
}

func (r *Run) lost(test, title string) {
	for _, p := range contract.Promises() {
		r.report.Verdicts = append(r.report.Verdicts, contract.Verdict{
			Test: test, Promise: p, Contract: r.cfg.Contract, Outcome: contract.Undecided,
			Why: title + "; the checks after it did not run",
		})
	}
}

// Count counts a test without subtests by how it ended: "pass", "fail" or
// "skip", as test2json says.
func (r *Run) Count(ended string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch ended {
	case "pass":
		r.report.Tests.Passed++
	case "skip":
		r.report.Tests.Skipped++
	default:
		r.report.Tests.Failed++
	}
}

// Finish ends the VMs, writes the artifacts and returns what the run found
// out. Errors of its own are in Run.Errors.
func (r *Run) Finish() *report.Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	lacking := false // what may be a module
	for _, g := range r.guests {
		g.awaitOrKill(r.stop)
		for _, left := range g.ClaimRest() {
			if r.noise(left) == "" {
				r.add(report.Fault{Kind: report.Kernel, Title: left.Title, What: fmt.Sprintf("%s, between tests: %s\n%s", left.Kind, left.Title, left.Text)})
			}
		}
		if err := g.notOf(); err != nil {
			r.add(report.Fault{Kind: report.SetUp, What: err.Error()})
		}
		if g.err != nil {
			r.add(report.Fault{Kind: report.SetUp, What: g.err.Error()})
		} else if g.result.Ending == vm.Exited {
			r.gone(g)
		}
		if g.hello.Release == "" {
			lacking = true
		} else {
			r.report.Release, r.report.Preemption, r.report.Modules = g.hello.Release, g.hello.Preemption, g.hello.ModuleErrors
		}
		r.report.Accel, r.report.AccelReason = string(g.vm.Accel().Accel), g.vm.Accel().Reason
	}
	r.stop()
	if r.lines != nil {
		r.lines.Close()
	}
	if what := r.leftOut(); what != "" {
		r.add(report.Fault{Kind: report.SetUp, What: what})
	}
	for _, p := range r.report.Promises() {
		if p.Outcome == contract.NotRun && p.First != nil && p.First.Why != contract.NoTime {
			lacking = true
			r.add(report.Fault{Kind: report.Kernel, What: fmt.Sprintf("%s: none of its %d checks could run: %s", p.Promise, p.NotRun, p.First.Why)})
		}
	}
	for _, m := range r.report.Modules {
		if lacking && strings.HasPrefix(m, "tun: ") {
			r.add(report.Fault{Kind: report.SetUp, What: "of MODULES, the one that all checks need did not load: " + m})
		}
	}
	if dir := modulesOf(r.cfg.Kernel, r.kernel.Release); lacking && r.cfg.Modules == "" && dir != "" {
		r.add(report.Fault{Kind: report.SetUp, What: "what the kernel lacks may be a module, and MODULES is not set: MODULES=" + vm.Quote(dir)})
	}
	r.report.Seconds = time.Since(r.report.Started).Seconds()
	if err := r.log.close(); err != nil {
		r.add(report.Fault{Kind: report.SetUp, What: err.Error()})
	}
	if err := r.report.Write(); err != nil {
		r.add(report.Fault{Kind: report.SetUp, What: err.Error()})
	}
	return &r.report
}

// leftOut names the tests whose checks did not all run because of go test's
// -timeout, and the command that runs them; "" if there are none.
func (r *Run) leftOut() string {
	var tests []string
	checks := make(map[string]bool)
	for _, v := range r.report.Verdicts {
		if v.Outcome != contract.NotRun || v.Why != contract.NoTime {
			continue
		}
		checks[v.Test] = true
		if test, _, _ := strings.Cut(v.Test, "/"); !slices.Contains(tests, test) {
			tests = append(tests, test)
		}
	}
	if len(tests) == 0 {
		return ""
	}
	slices.Sort(tests)
	return fmt.Sprintf("go test's -timeout left no time for %d checks of %s. What was decided stands. -timeout=30m runs all; this runs those tests:\n    %s -timeout=30m -run '^(%s)$'",
		len(checks), strings.Join(tests, ", "), r.report.Command, strings.Join(tests, "|"))
}

// exitGrace is how long a guest whose tests have all been replayed may take
// to switch itself off.
const exitGrace = 10 * time.Second

// awaitOrKill waits for the guest's end, which stop brings about if it does
// not come by itself: go test -failfast leaves the guest's tests running.
func (g *Guest) awaitOrKill(stop context.CancelFunc) {
	timer := time.AfterFunc(exitGrace, stop)
	defer timer.Stop()
	g.await()
}

// artifact is a file that is written as the run goes on. It can be written to
// after an error, which close returns: results count for more than files.
type artifact struct {
	file *os.File
	err  error
}

func createArtifact(path string) (*artifact, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create an artifact: %w; ARTIFACTS= names another directory", err)
	}
	return &artifact{file: file}, nil
}

var _ io.Writer = (*artifact)(nil)

func (a *artifact) Write(p []byte) (int, error) {
	if a.err == nil {
		_, a.err = a.file.Write(p)
	}
	return len(p), nil
}

func (a *artifact) close() error {
	if err := errors.Join(a.err, a.file.Close()); err != nil {
		return fmt.Errorf("the artifacts are not complete: %w", err)
	}
	return nil
}
