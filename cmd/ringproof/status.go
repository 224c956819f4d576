package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
)

// exitStatus is an error that says with what status to end.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// The exit statuses, as git bisect run interprets them: 0 is good, 1 to 127 are bad,
// except 125, which skips the commit. A status above 127 ends the bisection
// (git-bisect(1)).
const (
	broken      exitStatus = 1
	cannotTell  exitStatus = 125 // the kernel does not apply, build or boot, dies, or is undecided
	setUp       exitStatus = 128 // what was asked for, or this machine
	ours        exitStatus = 129 // ringproof itself
	interrupted exitStatus = 130 // as a shell has it
)

// judged is the status of a run; failed says whether its go test has failed. Only a
// broken promise is bad. A run is good only if some check ran and no promise is
// undecided. Reports that are noise decide nothing.
func judged(ctx context.Context, run *report.Run, failed error) error {
	seen := make(map[contract.Outcome]bool)
	for _, p := range run.Promises() {
		seen[p.Outcome] = true
	}
	switch {
	case ctx.Err() != nil:
		return interrupted
	case seen[contract.Broken]:
		return broken
	case run.Has(report.SetUp), len(run.Verdicts) == 0 && len(run.Errors) == 0:
		return setUp
	case run.Has(report.Harness):
		return ours
	case seen[contract.Undecided], !seen[contract.Kept], run.Has(report.Kernel):
		return cannotTell
	case failed != nil: // and nothing says why
		return ours
	}
	return nil
}

// unbuilt is the status of a build that failed. It is the tree's if a patch does not
// apply, an option is missing or the compiler fails; else it is the set-up's.
func unbuilt(ctx context.Context, err error) exitStatus {
	var patch *kernel.PatchError
	var config *kernel.ConfigError
	var kconfig *kernel.KconfigError
	var make *kernel.MakeError
	var full *kernel.DiskFullError
	switch {
	case ctx.Err() != nil:
		return interrupted
	case errors.As(err, &full):
		return setUp
	case errors.As(err, &make) && make.Killed():
		return setUp
	case errors.As(err, &patch), errors.As(err, &config), errors.As(err, &kconfig), make != nil:
		return cannotTell
	}
	return setUp
}

// worst is the status that says most of several runs: what was broken, then whose
// fault it is that nothing was decided.
func worst(statuses ...error) error {
	for _, s := range []exitStatus{interrupted, broken, setUp, ours, cannotTell} {
		for _, have := range statuses {
			if have == s {
				return s
			}
		}
	}
	return nil
}
