// Package run carries out one run. It checks its input, builds the image, boots VMs,
// passes the events of each test to the test of the same name on the host, and writes
// the artifacts.
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
	"github.com/ringproof/ringproof/internal/host/srcline"
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
	lines   *srcline.Lines // of VMLINUX, once they are wanted
	noLines error          // why there are none
	result  report.Run
	saved   time.Time // when the result was last written
	checks  int       // that have begun
	// subtests: some test below a top-level one has run.
	subtests bool
	guests   []*Guest
}

// Start prepares a run: an error says what is wrong with what it was given.
// Finish it. Until then ^C, SIGTERM and the death of the process that started this
// one end its VMs, and not the process, which has time to write down what there is.
func Start(cfg Config, flags Flags) (_ *Run, err error) {
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
	if err := kernel.CheckHost(image.Arch); err != nil {
		return nil, err
	}
	if cfg.Vmlinux != "" {
		if err := srcline.Check(cfg.Vmlinux); err != nil {
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
		Package: cfg.Package, Dir: cfg.Module, Arch: image.Arch, Modules: cfg.Modules, Release: image.Release, Progress: os.Stderr,
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
	r.result = report.Run{
		Dir: r.cfg.Dir, Label: cfg.Label, Kernel: cfg.Kernel, Arch: image.ARCH(),
		Contract: cfg.Contract, Command: cfg.command("go test ./vmtests"), Seed: cfg.Seed, Started: started, Suite: cfg.Suite, Shard: cfg.Shard.String(),
	}
	r.save()
	return r, nil
}

// withDefaultKernel fills in the kernel that is used without KERNEL.
func withDefaultKernel(cfg Config) (Config, error) {
	spec := kernel.Spec{Series: []string{filepath.Join(cfg.Module, "patches", "designs", "lossless")}}
	k, err := kernel.Find(context.Background(), spec)
	if err != nil || k == nil {
		return cfg, errors.Join(errors.New(`no KERNEL given, and the default kernel (Debian's linux-source-6.12 with patches/designs/lossless) is not built.
Give the image of a patched kernel:      KERNEL=~/linux/arch/x86/boot/bzImage go test ./vmtests
or build the default and a stock kernel: make check`), err)
	}
	cfg.Kernel, cfg.Modules, cfg.Vmlinux = k.Image, k.Modules, k.Vmlinux
	return cfg, nil
}

// command is report.Run's Command: what runs the tests, with the environment that
// it was given.
func (c *Config) command(program string) string {
	var words []string
	given := func(name, value string) {
		if value != "" {
			words = append(words, name+"="+vm.Quote(value))
		}
	}
	given("KERNEL", c.Kernel)
	given("MODULES", c.Modules)
	given("VMLINUX", c.Vmlinux)
	given("KNOWN", c.Known)
	for _, name := range settings {
		given(name, os.Getenv(name))
	}
	return strings.Join(append(words, program), " ")
}

// Verdict records what a test found out about a promise.
func (r *Run) Verdict(v contract.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Verdicts = append(r.result.Verdicts, v)
	r.save()
}

func (r *Run) baseline(b contract.Baseline) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Baselines = append(r.result.Baselines, b)
}

// unknown records ways to free a packet that are not known to the guest's ledger.
func (r *Run) unknown(paths contract.Paths) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.AddUnknown(paths)
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
	if !slices.ContainsFunc(r.result.Errors, same) {
		r.result.Errors = append(r.result.Errors, f)
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
		r.result.Verdicts = append(r.result.Verdicts, contract.Verdict{
			Test: test, Promise: p, Contract: r.cfg.Contract, Outcome: contract.Undecided,
			Why: title + contract.AfterDeath, Nth: r.checks,
		})
	}
}

// Count counts a test without subtests by how it ended: "pass", "fail" or
// "skip", as test2json says. A test of another shard is skipped, and counted there.
func (r *Run) Count(test, ended string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subtests = r.subtests || strings.Contains(test, "/")
	switch ended {
	case "pass":
		r.result.Tests.Passed++
	case "skip":
		if r.cfg.Shard.Has(test) {
			r.result.Tests.Skipped++
		}
	default:
		r.result.Tests.Failed++
	}
}

// Failed records that go test has failed, if nothing that was found out says why: what
// is written down must not look like a run that passed.
func (r *Run) Failed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	says := func(p report.Promise) bool { return p.Outcome == contract.Broken || p.Outcome == contract.Undecided }
	if len(r.result.Errors) == 0 && !slices.ContainsFunc(r.result.Promises(), says) {
		r.add(report.Fault{Kind: report.Harness, What: "go test has failed, and no verdict says why: see its output"})
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
			r.result.BuildID = srcline.NotesBuildID(g.hello.Notes)
			r.result.Release, r.result.Preemption, r.result.Modules = g.hello.Release, g.hello.Preemption, g.hello.ModuleErrors
		}
		r.result.Accel, r.result.AccelReason = string(g.vm.Accel().Accel), g.vm.Accel().Reason
	}
	r.stop()
	if r.lines != nil {
		r.lines.Close()
	}
	if what := r.unmatched(); what != "" {
		r.add(report.Fault{Kind: report.SetUp, What: what})
	}
	if what := r.leftOut(); what != "" {
		r.add(report.Fault{Kind: report.SetUp, What: what})
	}
	for _, f := range r.result.NoneRan() {
		lacking = true
		if r.cfg.Shard.Of == 0 { // other shards may run what this one cannot
			r.add(f)
		}
	}
	for _, m := range r.result.Modules {
		if lacking && strings.HasPrefix(m, "tun: ") {
			r.add(report.Fault{Kind: report.SetUp, What: "of MODULES, the one that all checks need did not load: " + m})
		}
	}
	if dir := modulesOf(r.cfg.Kernel, r.kernel.Release); lacking && r.cfg.Modules == "" && dir != "" {
		r.add(report.Fault{Kind: report.SetUp, What: "what the kernel lacks may be a module, and MODULES is not set: MODULES=" + vm.Quote(dir)})
	}
	r.result.Seconds = time.Since(r.result.Started).Seconds()
	if err := r.log.close(); err != nil {
		r.add(report.Fault{Kind: report.SetUp, What: err.Error()})
	}
	if err := r.result.WriteAll(); err != nil {
		r.add(report.Fault{Kind: report.SetUp, What: err.Error()})
	}
	return &r.result
}

// unmatched says that -run names checks, and there is none of those names: go test lets
// the tests pass that it names before the first slash. "" if all is well.
func (r *Run) unmatched() string {
	if !strings.Contains(r.flags.Run, "/") || r.subtests || len(r.result.Verdicts) > 0 || len(r.result.Errors) > 0 || r.cfg.Shard.Of > 0 {
		return ""
	}
	return fmt.Sprintf("no check matches -run '%s', so nothing was decided: with -v go test prints the names of the checks that run", r.flags.Run)
}

// leftOut names the tests whose checks did not all run because of go test's
// -timeout, and the command that runs them; "" if there are none.
func (r *Run) leftOut() string {
	var tests []string
	checks := 0
	for _, v := range r.result.Verdicts {
		if v.Outcome != contract.NotRun || v.Why != contract.NoTime {
			continue
		}
		checks++
		if test, _, _ := strings.Cut(v.Test, "/"); !slices.Contains(tests, test) {
			tests = append(tests, test)
		}
	}
	if checks == 0 {
		return ""
	}
	slices.Sort(tests)
	// The longest tests come last, so they may take as long as all before them.
	timeout := max(30*time.Minute, 2*time.Since(r.result.Started))
	return fmt.Sprintf("go test's -timeout left no time for %s of %s. What was decided stands. This runs those tests, if the machine is not slower than now:\n    %s -timeout=%.0fm -run '^(%s)$'",
		contract.Count(checks, "check"), strings.Join(tests, ", "), r.result.Command, timeout.Minutes(), strings.Join(tests, "|"))
}
