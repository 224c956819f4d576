// Command ringproof builds the kernels that the checks run on, runs the
// checks on several of them and shows the results side by side. A single
// kernel needs no command: KERNEL=path go test ./vmtests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// errUsage means that usage has been printed already.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second ^C ends the process
	os.Exit(int(status(ctx, os.Args[1:])))
}

// status runs a command, and returns the status to end with. Whatever is no
// verdict of a command that gives one is a fault of the set-up, so that none is
// taken for a verdict by git bisect.
func status(ctx context.Context, args []string) exitStatus {
	err := command(ctx, args)
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return status
	case ctx.Err() != nil:
		status = interrupted
	default:
		status = setUp
	}
	if !errors.Is(err, flag.ErrHelp) && !errors.Is(err, errUsage) {
		fmt.Fprintf(os.Stderr, "ringproof: %v\n", err)
	}
	return status
}

func command(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "deps":
			return deps(ctx, args[1:])
		case "kernel":
			return buildKernel(ctx, args[1:])
		case "b4":
			return checkForB4(ctx, args[1:])
		case "nipa":
			return execForNIPA(ctx, args[1:])
		case "kcidb":
			return submit(args[1:])
		case "help", "-h", "-help", "--help":
			return help(ctx, args[1:])
		case "pull":
			return pull(ctx, args[1:])
		case "inside":
			return runInside(ctx, args[1:])
		case "run":
			return runOn(ctx, args[1:])
		case "check":
			return check(ctx, args[1:])
		case "proof":
			return prove(ctx, args[1:])
		case "soak":
			return soak(ctx, args[1:])
		case "bisect":
			return bisect(ctx, args[1:])
		case "report":
			return show(ctx, args[1:])
		case "bench":
			return measure(ctx, args[1:])
		case "compare":
			return compare(args[1:])
		case "merge":
			return merge(ctx, args[1:])
		case "revisions":
			return revisions(ctx, args[1:])
		}
	}
	if len(args) > 0 {
		return fmt.Errorf("%s: there is no such command; ringproof help lists them", args[0])
	}
	usage(os.Stderr)
	return errUsage
}

// help prints what -h of a command does, or lists the commands.
func help(ctx context.Context, args []string) error {
	if len(args) == 0 {
		usage(os.Stdout)
		return nil
	}
	if err := command(ctx, []string{args[0], "-h"}); !errors.Is(err, flag.ErrHelp) {
		return err
	}
	return nil
}
