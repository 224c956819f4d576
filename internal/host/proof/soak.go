package proof

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/gotest"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// Soak judges each design that breaks nothing n times, in turns, on kernels with
// these configuration fragments. Whatever is not kept, or goes wrong, is a false
// alarm, and an error in the end; the artifacts of such a run are named, those of
// the others removed.
func Soak(ctx context.Context, patches string, fragments []string, n int, progress io.Writer) error {
	designs, err := Read(patches)
	if err != nil {
		return err
	}
	sound := make(map[*Design]*kernel.Result)
	for _, d := range designs {
		if len(d.Broken) > 0 {
			continue
		}
		if sound[d], err = kernel.Build(ctx, kernel.Spec{Series: d.Series, Fragments: slices.Concat(d.Fragments, fragments)}, progress); err != nil {
			return err
		}
	}
	alarms := 0
	right := make(map[*Design]int)
	for i := range n {
		for _, d := range designs {
			if sound[d] == nil {
				continue
			}
			why, err := d.once(ctx, sound[d])
			if err != nil {
				return fmt.Errorf("%s, %d of %d: %w", d.Name, i+1, n, err)
			}
			if why == "" {
				right[d]++
			} else {
				alarms++
			}
			fmt.Fprintf(progress, "%s %d of %d: %d right%s\n", d.Name, i+1, n, right[d], why)
		}
	}
	if alarms > 0 {
		return fmt.Errorf("%d false alarms", alarms)
	}
	return nil
}

// once judges the design, and says what is wrong with the verdict.
func (d *Design) once(ctx context.Context, k *kernel.Result) (why string, err error) {
	seen := &Outcome{Promises: make(map[contract.Promise]contract.Outcome), Tests: make(map[contract.Promise][]string)}
	for _, pass := range designPasses[d.Driver] {
		run, err := gotest.Run(ctx, gotest.Config{
			Label: d.Name, Name: "soak-" + d.Name, Kernel: k, Driver: d.Driver, Contract: d.Contract, Args: pass, Progress: io.Discard,
		})
		switch {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case run == nil:
			return "", err
		}
		seen.add(run)
		if err != nil && len(run.Errors) == 0 {
			seen.Errors = append(seen.Errors, "tests failed in "+run.Dir)
		}
	}
	for _, wrong := range d.wrong(seen) {
		why += "; " + wrong
	}
	if why != "" {
		return why + fmt.Sprint("; see ", seen.Artifacts), nil
	}
	for _, dir := range seen.Artifacts {
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
	}
	return "", nil
}
