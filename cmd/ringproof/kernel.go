package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/ringproof/ringproof/internal/host/kernel"
)

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return fmt.Sprint(*l) }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// buildKernel prints the path of the bzImage, and nothing else, to standard
// output, so that KERNEL=$(ringproof kernel ...) works.
func buildKernel(ctx context.Context, args []string) error {
	flags := newFlags("kernel")
	var spec kernel.Spec
	flags.StringVar(&spec.Source, "ksrc", os.Getenv("KSRC"), "kernel `source`: a tree, a tar file, or debian:VERSION or debian:SUITE; without one, debian:6.12")
	flags.Var((*list)(&spec.Series), "series", "mbox, patch `file` or directory of patches to apply; may be given several times")
	flags.IntVar(&spec.Version, "v", 0, "which `version` of the series to take, if there are several; 0 is the newest")
	flags.Var((*list)(&spec.Fragments), "config", "`fragment` on top of base, such as debug; may be given several times")
	out := flags.String("o", "", "copy the kernel, its modules and its vmlinux to this `directory`")
	progress := quiet(flags, os.Stderr)
	flags.IntVar(&spec.Jobs, "j", 0, "how many `commands` make runs at the same time; 0 is one for each CPU")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("kernel: unexpected argument %q", flags.Arg(0))
	}
	k, err := kernel.Build(ctx, spec, progress())
	if err != nil {
		return err
	}
	return keep(k, *out)
}
