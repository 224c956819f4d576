package main

import (
	"flag"
	"io"
)

// quiet gives a command -q, and returns where its progress goes, once the flags are
// parsed: to w without -q.
func quiet(flags *flag.FlagSet, w io.Writer) func() io.Writer {
	q := flags.Bool("q", false, "do not show the progress")
	return func() io.Writer {
		if *q {
			return io.Discard
		}
		return w
	}
}
