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

const usage = `usage: ringproof COMMAND [ARGUMENT ...]

  deps [-h]                install what is missing, or say how
  kernel [-h]              build a kernel, print the path of its bzImage
  check [-h]               build a kernel with and without a series, run the
                           contract on both, show them side by side
  proof [-h]               judge the designs and the planted bugs in patches/
  soak [-h]                judge the sound designs N times
  bisect [-h]              judge a tree for git bisect run
  report [-h] DIR          print what a run found out, in any of several forms
  compare [-h] DIR DIR     show runs side by side, and what changed
  merge [-h] DIR [DIR ...] put the shards of a run together
  revisions [-h] SERIES    judge the revisions of a series, one after the other

exit status of check, bisect, merge and revisions: 0 all promises kept, 1 one
broken, 125 the kernel cannot be built, booted or decided, 128 a fault of the
set-up, 129 one of ringproof, 130 interrupted. Other commands: 0 or, if something
is wrong, 128.
`

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
		case "compare":
			return compare(args[1:])
		case "merge":
			return merge(ctx, args[1:])
		case "revisions":
			return revisions(ctx, args[1:])
		}
	}
	fmt.Fprint(os.Stderr, usage)
	return errUsage
}
