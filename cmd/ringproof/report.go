package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/srcline"
)

// show writes what a run found out in any of the forms that there are.
func show(ctx context.Context, args []string) error {
	flags := newFlags("report")
	form := flags.String("format", "text", "`format` to print: "+strings.Join(report.Formats(), ", "))
	write := flags.Bool("w", false, "write all formats into DIR, as verdict.*, and print nothing")
	vmlinux := flags.String("vmlinux", "", "the kernel's vmlinux `file`, to show source lines of a run that had none")
	ksrc := flags.String("ksrc", "", "source `tree` of -vmlinux, if it is not where the kernel was built")
	costs := flags.String("cost", "", "`directory` of a kernel that ringproof bench has measured, such as artifacts/bench/patched: its tables and verdicts are shown with the run's")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("report: give the directory of one run, not %d", flags.NArg())
	}
	run, err := report.Read(flags.Arg(0))
	if err != nil {
		return err
	}
	if *costs != "" {
		measured, err := report.Read(*costs)
		if err != nil {
			return err
		}
		if err := run.AddCost(measured); err != nil {
			return err
		}
	}
	if *vmlinux != "" {
		if err := locate(ctx, run, *vmlinux, *ksrc); err != nil {
			return err
		}
	}
	if *write {
		return run.WriteAll()
	}
	text, err := run.Format(*form)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

// locate names the source lines of a run's findings. The text of those is read from
// ksrc, or else from what is known to be the vmlinux's source.
func locate(ctx context.Context, run *report.Run, vmlinux, ksrc string) error {
	lines, err := srcline.Open(vmlinux)
	if err != nil {
		return err
	}
	defer lines.Close()
	built, err := kernel.FindSource(vmlinux)
	switch {
	case err != nil:
		return err
	case ksrc != "":
		lines.Read = func(file string) (string, bool) {
			text, err := os.ReadFile(filepath.Join(ksrc, file))
			return string(text), err == nil
		}
	case built != nil:
		lines.Read = func(file string) (string, bool) { return built.Read(ctx, file) }
	}
	return run.Locate(lines)
}
