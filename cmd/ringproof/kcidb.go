package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/ringproof/ringproof/internal/host/report"
)

// submit prints a run as KernelCI's database takes it.
func submit(args []string) error {
	flags := newFlags("kcidb")
	var cfg report.KCIDBConfig
	flags.StringVar(&cfg.Origin, "origin", "", "`name` of the CI system that submits")
	flags.StringVar(&cfg.Build, "build", "", "`id` of the build that was tested, if it has been submitted; without one, the build is described")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("kcidb: give the directory of one run, not %d", flags.NArg())
	}
	run, err := report.Read(flags.Arg(0))
	if err != nil {
		return err
	}
	text, err := run.KCIDB(cfg)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}
