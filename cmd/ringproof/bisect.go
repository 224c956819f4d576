package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/suite"
)

// exitStatus is an error that says with what status to end.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// What git bisect run makes of a status.
const (
	bad        exitStatus = 1
	cannotTell exitStatus = 125
)

// bisect judges a tree, or a series, as it stands, for git bisect run.
func bisect(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("ringproof bisect", flag.ContinueOnError)
	ksrc := flags.String("ksrc", os.Getenv("KSRC"), "kernel `source`: a tree")
	series := flags.String("series", os.Getenv("SERIES"), "mbox, patch `file` or directory of patches to apply")
	version := flags.Int("v", 0, "the `version` of the series to take where there are several; 0 is the newest")
	want := flags.String("contract", os.Getenv("CONTRACT"), "the `contract` to keep")
	tests := flags.String("run", "", "tests to run, as go test's `-run`; without it, -short")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
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
		return errors.New("bisect: the history of what? -ksrc (or KSRC) names a tree, -series (or SERIES) patches")
	}
	k, err := kernel.Build(ctx, spec, os.Stderr)
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot be built: %v\n", err)
		return cannotTell
	}
	args = []string{"-short"}
	if *tests != "" {
		args = []string{"-run=" + *tests}
	}
	run, err := suite.Run(ctx, suite.Config{Label: "bisect", Name: "bisect", Kernel: k, Contract: c, Args: args, Progress: os.Stderr})
	if run == nil {
		fmt.Fprintf(os.Stderr, "cannot be run: %v\n", err)
		return cannotTell
	}
	fmt.Print(run.Text())
	return verdict(run)
}

// verdict is good (nil) only if some check ran and nothing was left open.
func verdict(run *report.Run) error {
	seen := make(map[contract.Outcome]bool)
	for _, p := range run.Promises() {
		seen[p.Outcome] = true
	}
	switch {
	case seen[contract.Broken]:
		return bad
	case seen[contract.Undecided], !seen[contract.Kept], len(run.Errors) > 0:
		return cannotTell
	}
	return nil
}
