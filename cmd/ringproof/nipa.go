package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/gotest"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// The statuses with which a program ends that netdev's CI runs (contest/remote/exec.py).
const (
	nipaFail exitStatus = 1
	nipaSkip exitStatus = 4
	nipaWarn exitStatus = 5
)

// execForNIPA judges the tree in the working directory for the executor of netdev's CI,
// and leaves the artifacts and results in the form of that CI in RESULTS_DIR.
func execForNIPA(ctx context.Context, args []string) error {
	flags := newFlags("nipa")
	ksrc := flags.String("ksrc", ".", "kernel `source`: a tree")
	want := flags.String("contract", os.Getenv("CONTRACT"), "the `contract` to test: auto, stock, lossless, rare-drop or opt-in")
	long := flags.Bool("long", false, "run the whole matrix, which takes many minutes")
	link := flags.String("link", "", "`URL` at which RESULTS_DIR can be read")
	var fragments list
	flags.Var(&fragments, "config", "`fragment` on top of base, such as debug; may be given several times")
	home := flags.String("C", "", "`directory` of ringproof's source, if that is not the working directory")
	progress := quiet(flags, os.Stderr)
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return nipaSkip
	}
	err := func() error {
		if flags.NArg() > 0 {
			return fmt.Errorf("unexpected argument %q", flags.Arg(0))
		}
		branch, dir := os.Getenv("BRANCH"), os.Getenv("RESULTS_DIR")
		if branch == "" || dir == "" {
			return errors.New("BRANCH and RESULTS_DIR must be set, as the executor sets them")
		}
		c, err := contract.Parse(*want)
		if err != nil {
			return err
		}
		if err := moveTo(*home, &*ksrc); err != nil {
			return err
		}
		k, err := kernel.Build(ctx, kernel.Spec{Source: *ksrc, Fragments: fragments}, progress())
		if err != nil {
			return err
		}
		var tests []string
		if !*long {
			tests = append(tests, "-short")
		}
		run, err := gotest.Run(ctx, gotest.Config{
			Label: branch, Name: "nipa", Kernel: k, Contract: c, Args: tests, Dir: filepath.Join(dir, "ringproof"), Progress: progress(),
		})
		if run == nil {
			return err
		}
		status := nipaStatus(judged(ctx, run, err))
		fmt.Print(run.Text())
		results, err := run.NIPA(branch, *link)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "results.json"), results, 0o644); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
		if status != 0 {
			return status
		}
		return nil
	}()
	var status exitStatus
	if err == nil || errors.As(err, &status) {
		return err
	}
	fmt.Fprintf(os.Stderr, "ringproof nipa: %v\n", err)
	return nipaSkip
}

// nipaStatus is the status for netdev's CI: nothing fails but a promise that is broken,
// and what was not judged for some fault of ours or of the machine is skipped.
func nipaStatus(judged error) exitStatus {
	switch judged {
	case nil:
		return 0
	case broken:
		return nipaFail
	case cannotTell:
		return nipaWarn
	}
	return nipaSkip
}
