package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// Test returns the next execution of a top-level test, in the VM that runs
// all tests, or, if that one ended without it, in one of its own. others are
// the names of all other top-level tests. The error says why there is none.
func (r *Run) Test(name string, others []string) (*Stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.guests) == 0 {
		return r.in(r.flags, "", "", name)
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
	g, err := start(r.ctx, vm.Config{
		Kernel: r.cfg.Kernel, Arch: r.kernel.Arch, Vmlinux: r.cfg.Vmlinux, Initramfs: r.image,
		Boot: contract.Boot{
			Argv: append([]string{initramfs.Program}, args...),
			Env:  r.guestEnv(after),
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

// guestEnv is what the guest's test program is told, beyond its arguments.
func (r *Run) guestEnv(after string) []string {
	env := []string{
		"DRIVER=" + r.cfg.Driver, "CONTRACT=" + string(r.cfg.Contract),
		fmt.Sprintf("SEED=%d", r.cfg.Seed), fmt.Sprintf("FAULTS=%v", r.cfg.Faults),
		"SCHEDULES=" + r.cfg.Schedules, "SHARD=" + r.cfg.Shard.String(), fmt.Sprintf("REPLAYS=%d", r.cfg.Replays),
	}
	if r.cfg.Baseline > 0 {
		env = append(env, fmt.Sprintf("BASELINE=%v", r.cfg.Baseline), "BASELINE_CONTROL="+os.Getenv("BASELINE_CONTROL"))
	}
	if after != "" {
		env = append(env, "AFTER="+after)
	}
	// How each test shall end early, to see what becomes of its verdicts.
	if how := os.Getenv("RINGPROOF_END"); how != "" {
		env = append(env, "RINGPROOF_END="+how)
	}
	return env
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
