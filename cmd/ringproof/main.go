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
  bisect [-h]              judge a tree for git bisect run: exit status 0 is good,
                           1 bad, 125 cannot be built, booted or decided
  compare DIR [DIR ...]    show the artifacts of several runs side by side
`

// errUsage means that usage has been printed already.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, os.Args[1:])
	var status exitStatus
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp), errors.Is(err, errUsage):
		os.Exit(2)
	case errors.As(err, &status):
		os.Exit(int(status))
	default:
		fmt.Fprintf(os.Stderr, "ringproof: %v\n", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "deps":
			return deps(ctx, args[1:])
		case "kernel":
			return buildKernel(ctx, args[1:])
		case "check":
			return check(ctx, args[1:])
		case "proof":
			return prove(ctx, args[1:])
		case "soak":
			return soak(ctx, args[1:])
		case "bisect":
			return bisect(ctx, args[1:])
		case "compare":
			return compare(args[1:])
		}
	}
	fmt.Fprint(os.Stderr, usage)
	return errUsage
}
