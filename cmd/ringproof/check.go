package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/gotest"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
)

// column is one of the kernels that check shows side by side.
type column struct {
	label    string
	series   []string
	contract contract.Contract
	// unbuilt: that it cannot be built is shown, and does not keep the others from
	// being judged.
	unbuilt bool
}

// leftOut is said where the reference series is shown for what it does, and not
// for what it is there to fail.
const leftOut = `Left out: TestNoStall/detach, TestControlSchedules and TestFaults, where patches/designs/lossless stalls when a
queue is detached and attached, and TestRequeueSchedules, where it trims a packet twice, as the version of the
series does that it stands for. To see that, once the kernels are built: go test ./vmtests -run 'NoStall/detach|ControlSchedules|RequeueSchedules|Faults'

`

// check builds a kernel without and with a series and runs the contract on
// both.
func check(ctx context.Context, args []string) error {
	flags := newFlags("check")
	ksrc := flags.String("ksrc", os.Getenv("KSRC"), "kernel `source`: a tree, a tar file, or debian:VERSION or debian:SUITE; without one, debian:6.12")
	series := flags.String("series", os.Getenv("SERIES"), "mbox, patch `file` or directory to test; without one, patches/designs/lossless on the default source, and on another source none")
	version := flags.Int("v", 0, "which `version` of the series to take, if there are several; 0 is the newest")
	want := flags.String("contract", os.Getenv("CONTRACT"), "the `contract` of the patched kernel: auto, stock, lossless, rare-drop or opt-in")
	short := flags.Bool("short", false, "seconds instead of minutes: checks the three promises, but not the whole matrix")
	quietly := quiet(flags, os.Stdout)
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("check: unexpected argument %q", flags.Arg(0))
	}
	patched, err := contract.Parse(*want)
	if err != nil {
		return err
	}
	progress := quietly()
	columns := []column{{label: "stock", contract: contract.Stock}}
	var tests []string
	if *short {
		tests = append(tests, "-short")
	}
	switch {
	case *series != "":
		columns = append(columns, column{label: "patched", series: []string{*series}, contract: patched})
	case *ksrc != "":
		columns = []column{{label: strings.ReplaceAll(filepath.Base(*ksrc), ":", "-"), contract: patched}}
	default:
		columns = append(columns, column{label: "lossless", series: []string{filepath.Join("patches", "designs", "lossless")}, contract: patched})
		tests = append(tests, "-skip=^TestNoStall$/^detach$|^Test(ControlSchedules|RequeueSchedules|Faults)$")
		fmt.Fprint(progress, leftOut)
	}

	runs, statuses, err := judgeAll(ctx, columns, kernel.Spec{Source: *ksrc, Version: *version}, tests, progress)
	if err != nil {
		return err
	}
	fmt.Printf("\nside by side:\n\n%s", report.SideBySide(runs...))
	return worst(statuses...)
}

// judgeAll builds the kernels of all columns, and judges them one after the other.
// The version of the spec is that of the series, or, where there is but the source,
// of what to take of that. The statuses are those of the runs.
func judgeAll(ctx context.Context, columns []column, spec kernel.Spec, tests []string, progress io.Writer) (runs []*report.Run, statuses []error, err error) {
	// All kernels first: a series that does not apply is known at once.
	kernels := make([]*kernel.Result, len(columns))
	runs, statuses = make([]*report.Run, len(columns)), make([]error, len(columns))
	version := spec.Version
	for i, c := range columns {
		fmt.Fprintf(progress, "%s kernel:\n", c.label)
		spec.Series, spec.Version = c.series, 0
		if c.series != nil || len(columns) == 1 {
			spec.Version = version
		}
		kernels[i], err = kernel.Build(ctx, spec, progress)
		if err != nil {
			fmt.Fprintf(os.Stderr, "cannot be built: %v\n", err)
			status := unbuilt(ctx, err)
			if !c.unbuilt || status != cannotTell {
				return nil, nil, status
			}
			runs[i], statuses[i] = &report.Run{
				Label: c.label, Contract: c.contract, Errors: []report.Fault{{Kind: report.Kernel, What: fmt.Sprintf("it cannot be built: %v", err)}},
			}, status
			continue
		}
		fmt.Fprintf(progress, "%s\n", kernels[i].Image)
	}
	var known []string
	for i, c := range columns {
		if kernels[i] == nil {
			continue
		}
		fmt.Fprintf(progress, "\n%s kernel, contract %s:\n", c.label, c.contract)
		run, err := gotest.Run(ctx, gotest.Config{
			Label: c.label, Name: "check-" + c.label, Kernel: kernels[i], Contract: c.contract, Args: tests, Env: known, Progress: progress,
		})
		if run == nil {
			return nil, nil, err
		}
		fmt.Print(run.Text())
		runs[i], statuses[i] = run, judged(ctx, run, err)
		if i == 0 && len(columns) > 1 {
			if known, err = alsoKnown(run); err != nil {
				return nil, nil, err
			}
		}
	}
	return runs, statuses, nil
}

// alsoKnown makes what the stock kernel reported known for the next one, beside what
// KNOWN names.
func alsoKnown(stock *report.Run) (env []string, err error) {
	patterns := stock.Reported()
	if len(patterns) == 0 {
		return nil, nil
	}
	var text []byte
	if own := os.Getenv("KNOWN"); own != "" {
		if text, err = os.ReadFile(own); err != nil {
			return nil, fmt.Errorf("KNOWN: %w", err)
		}
	}
	file := filepath.Join(stock.Dir, "known")
	text = fmt.Appendf(text, "\n# What the stock kernel reports.\n%s\n", strings.Join(patterns, "\n"))
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return nil, fmt.Errorf("keep what the stock kernel reports: %w", err)
	}
	return []string{"KNOWN=" + file}, nil
}
