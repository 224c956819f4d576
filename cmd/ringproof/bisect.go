package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/gotest"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// bisect judges a tree, or a series, as it stands, for git bisect run. An error
// that is no exitStatus is one of the set-up.
func bisect(ctx context.Context, args []string) error {
	flags := newFlags("bisect")
	ksrc := flags.String("ksrc", os.Getenv("KSRC"), "kernel `source`: a tree")
	series := flags.String("series", os.Getenv("SERIES"), "mbox, patch `file` or directory of patches to apply")
	version := flags.Int("v", 0, "which `version` of the series to take, if there are several; 0 is the newest")
	want := flags.String("contract", os.Getenv("CONTRACT"), "the `contract` to test: auto, stock, lossless, rare-drop or opt-in")
	tests := flags.String("run", "", "`tests` to run, as go test's -run; without it, those of -short")
	progress := quiet(flags, os.Stderr)
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("bisect: unexpected argument %q", flags.Arg(0))
	}
	c, err := contract.Parse(*want)
	if err != nil {
		return err
	}
	spec := kernel.Spec{Source: *ksrc, Version: *version}
	switch {
	case *series != "":
		spec.Series = []string{*series}
	case *ksrc == "":
		return errors.New("bisect: nothing to bisect: name a tree with -ksrc (or KSRC), or patches with -series (or SERIES)")
	}
	k, err := kernel.Build(ctx, spec, progress())
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot be built: %v\n", err)
		return unbuilt(ctx, err)
	}
	args = []string{"-short"}
	if *tests != "" {
		args = []string{"-run=" + *tests}
	}
	run, err := gotest.Run(ctx, gotest.Config{Label: "bisect", Name: "bisect", Kernel: k, Contract: c, Args: args, Progress: progress()})
	if run == nil {
		return fmt.Errorf("cannot be run: %w", err)
	}
	fmt.Print(run.Text())
	if len(run.Verdicts) == 0 && len(run.Errors) == 0 {
		return fmt.Errorf("bisect: -run=%s matches no check", *tests)
	}
	return judged(ctx, run, err)
}
