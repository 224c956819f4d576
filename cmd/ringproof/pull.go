package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/ringproof/ringproof/internal/host/kernel"
)

// pull prints the path of the bzImage of a container image, and nothing else, to
// standard output.
func pull(ctx context.Context, args []string) error {
	flags := newFlags("pull")
	out := flags.String("o", "", "copy the kernel, its modules and its vmlinux to this `directory`")
	progress := quiet(flags, os.Stderr)
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("pull: give one image, not %d", flags.NArg())
	}
	k, err := kernel.Pull(ctx, flags.Arg(0), progress())
	if err != nil {
		return err
	}
	return keep(k, *out)
}

// keep copies a kernel to a directory, if one is named, and prints where its image is.
func keep(k *kernel.Result, dir string) error {
	if dir != "" {
		if err := k.Keep(dir); err != nil {
			return err
		}
		kept, err := kernel.Open(dir)
		if err != nil {
			return err
		}
		k = kept
	}
	fmt.Println(k.Image)
	return nil
}
