package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/gotest"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// runOn runs the contract, or a shard of it, on a kernel that has been built.
func runOn(ctx context.Context, args []string) error {
	flags := newFlags("run")
	dir := flags.String("kernel", "", "`directory` that was written by ringproof kernel -o")
	want := flags.String("contract", os.Getenv("CONTRACT"), "the `contract` to test: auto, stock, lossless, rare-drop or opt-in")
	shard := flags.String("shard", os.Getenv("SHARD"), "run part `I/N` of the tests")
	out := flags.String("o", "", "new `directory` for the artifacts; without one, a directory below artifacts/")
	tests := flags.String("run", "", "`tests` to run, as go test's -run")
	short := flags.Bool("short", false, "seconds instead of minutes")
	timeout := flags.String("timeout", "", "`time` after which the run ends, as go test's -timeout (30m)")
	progress := quiet(flags, os.Stderr)
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("run: unexpected argument %q", flags.Arg(0))
	}
	c, err := contract.Parse(*want)
	if err != nil {
		return err
	}
	part, err := contract.ParseShard(*shard)
	if err != nil {
		return fmt.Errorf("run: -shard (or SHARD): %w", err)
	}
	k, err := kernel.Open(*dir)
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	var flagsOfTest []string
	for name, value := range map[string]string{"-run": *tests, "-timeout": *timeout} {
		if value != "" {
			flagsOfTest = append(flagsOfTest, name+"="+value)
		}
	}
	if *short {
		flagsOfTest = append(flagsOfTest, "-short")
	}
	run, err := gotest.Run(ctx, gotest.Config{
		Label: k.Release, Name: "run", Kernel: k, Contract: c, Args: flagsOfTest, Shard: part, Dir: *out, Progress: progress(),
	})
	if run == nil {
		return err
	}
	fmt.Print(run.Text())
	return judged(ctx, run, err)
}
