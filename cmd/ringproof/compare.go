package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
)

// compare shows runs beside each other, and what changed from each to the next.
func compare(args []string) error {
	flags := newFlags("compare")
	runs, err := readRuns(flags, args)
	if err != nil {
		return err
	}
	if len(runs) > 2 {
		fmt.Print(report.Revisions(runs...))
		return nil
	}
	fmt.Print(report.SideBySide(runs...))
	if len(runs) == 2 {
		fmt.Printf("\n%s, after %s:\n%s", runs[1].Label, runs[0].Label, report.Changes(runs[0], runs[1]))
	}
	return nil
}

// readRuns reads the runs in the directories that the arguments name.
func readRuns(flags *flag.FlagSet, args []string) (runs []*report.Run, err error) {
	if err := flags.Parse(args); err != nil {
		return nil, flag.ErrHelp
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return nil, errUsage
	}
	for _, dir := range flags.Args() {
		run, err := report.Read(dir)
		if err != nil {
			return nil, err
		}
		if run.Label == "" {
			run.Label = filepath.Base(dir)
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// merge puts the shards of a run together, and ends as the whole run would.
func merge(ctx context.Context, args []string) error {
	flags := newFlags("merge")
	out := flags.String("o", "", "write verdict.* into this `directory`")
	label := flags.String("label", "", "`name` of the run in comparisons")
	runs, err := readRuns(flags, args)
	if err != nil {
		return err
	}
	whole, err := report.Merge(*out, runs...)
	if err != nil {
		return err
	}
	if *label != "" {
		whole.Label = *label
	}
	if *out != "" {
		if err := os.MkdirAll(whole.Dir, 0o755); err != nil {
			return fmt.Errorf("merge: %w", err)
		}
		if err := whole.WriteAll(); err != nil {
			return err
		}
	}
	fmt.Print(whole.Text())
	return judged(ctx, whole, nil)
}

// revisions judges the revisions of a series, one after the other.
func revisions(ctx context.Context, args []string) error {
	flags := newFlags("revisions")
	ksrc := flags.String("ksrc", os.Getenv("KSRC"), "kernel `source`, as for ringproof check")
	want := flags.String("contract", os.Getenv("CONTRACT"), "the `contract` of each revision: auto, lossless, rare-drop or opt-in")
	short := flags.Bool("short", false, "seconds instead of minutes for each: checks the three promises, but not the whole matrix")
	run := flags.String("run", "", "`tests` to run, as go test's -run")
	progress := quiet(flags, os.Stdout)
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return errUsage
	}
	c, err := contract.Parse(*want)
	if err != nil {
		return err
	}
	columns := []column{{label: "stock", contract: contract.Stock}}
	for _, series := range flags.Args() {
		columns = append(columns, column{label: labelOf(series, columns), series: []string{series}, contract: c, unbuilt: true})
	}
	var tests []string
	if *short {
		tests = append(tests, "-short")
	}
	if *run != "" {
		tests = append(tests, "-run="+*run)
	}
	runs, statuses, err := judgeAll(ctx, columns, kernel.Spec{Source: *ksrc}, tests, progress())
	if err != nil {
		return err
	}
	fmt.Printf("\n%s", report.Revisions(runs...))
	return statuses[len(statuses)-1]
}

// labelOf names a series by its file, and by a number as well if another has that
// name.
func labelOf(series string, columns []column) string {
	name := filepath.Base(series)
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".mbox"), ".patch")
	label := name
	for n := 2; ; n++ {
		taken := false
		for _, c := range columns {
			taken = taken || c.label == label
		}
		if !taken {
			return label
		}
		label = fmt.Sprintf("%s-%d", name, n)
	}
}
