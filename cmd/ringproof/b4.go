package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/gotest"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
)

// checkForB4 judges the series that the mail on standard input is of, and prints what
// b4 review shows. Whatever keeps it from that is printed in the same way.
func checkForB4(ctx context.Context, args []string) error {
	flags := newFlags("b4")
	ksrc := flags.String("ksrc", os.Getenv("KSRC"), "kernel `source` to apply the series to; without one, the base that b4 found for it in the working directory's repository")
	series := flags.String("series", os.Getenv("SERIES"), "`series` to test, instead of that of the mail")
	want := flags.String("contract", os.Getenv("CONTRACT"), "the `contract` of the patched kernel: auto, stock, lossless, rare-drop or opt-in")
	long := flags.Bool("long", false, "run the whole matrix, which takes many minutes")
	var fragments list
	flags.Var(&fragments, "config", "`fragment` on top of base, such as debug; may be given several times")
	home := flags.String("C", "", "`directory` of ringproof's source, if that is not the working directory")
	progress := quiet(flags, os.Stderr)
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("b4: unexpected argument %q: the mail comes on standard input", flags.Arg(0))
	}
	found, err := func() (report.B4Check, error) {
		c, err := contract.Parse(*want)
		if err != nil {
			return report.B4Check{}, err
		}
		spec := kernel.Spec{Source: *ksrc, Series: []string{*series}, Fragments: fragments}
		if *series == "" {
			if spec.Series[0], err = messageIDOf(os.Stdin); err != nil {
				return report.B4Check{}, err
			}
		}
		if *ksrc == "" {
			if spec.Source, err = trackedBase(ctx, os.Getenv("B4_TRACKING_FILE")); err != nil {
				return report.B4Check{}, err
			}
		}
		if err := moveTo(*home, &spec.Source, &spec.Series[0]); err != nil {
			return report.B4Check{}, err
		}
		k, err := kernel.Build(ctx, spec, progress())
		if err != nil {
			return report.B4Check{}, err
		}
		var tests []string
		if !*long {
			tests = append(tests, "-short")
		}
		run, err := gotest.Run(ctx, gotest.Config{Label: "series", Name: "b4", Kernel: k, Contract: c, Args: tests, Progress: progress()})
		if run == nil {
			return report.B4Check{}, err
		}
		return run.B4(), nil
	}()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "ringproof: %v\n", err)
		found = report.B4Fault(err)
	}
	text, err := report.FormatB4(found)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

// messageIDOf reads a mail, of a series or of one of its patches, and returns its
// Message-ID.
func messageIDOf(r io.Reader) (string, error) {
	message, err := mail.ReadMessage(r)
	if err != nil {
		return "", fmt.Errorf("read the mail on standard input: %w", err)
	}
	id := strings.Trim(message.Header.Get("Message-ID"), " \t<>")
	if id == "" {
		return "", errors.New("the mail on standard input has no Message-ID, so b4 cannot find its series: name one with -series")
	}
	return id, nil
}

// trackedBase is the source that a series under review is for: the commit that b4 has
// noted as its base (b4 review: the tracking file's series.base-commit), in the
// repository of the working directory, in which b4 runs its checks.
func trackedBase(ctx context.Context, tracking string) (string, error) {
	if tracking == "" {
		return "", errors.New("no kernel source: name one with -ksrc or KSRC, or check out the series with b4, whose tracking file (B4_TRACKING_FILE) then names the base")
	}
	text, err := os.ReadFile(tracking)
	if err != nil {
		return "", fmt.Errorf("read b4's tracking file: %w", err)
	}
	var tracked struct {
		Series struct {
			BaseCommit string `json:"base-commit"`
		} `json:"series"`
	}
	if err := json.Unmarshal(text, &tracked); err != nil {
		return "", fmt.Errorf("read b4's tracking file %s: %w", tracking, err)
	}
	if tracked.Series.BaseCommit == "" {
		return "", fmt.Errorf("b4's tracking file %s has no base-commit: name the kernel source with -ksrc or KSRC", tracking)
	}
	git := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel")
	top, err := git.Output()
	if err != nil {
		return "", fmt.Errorf("find the base %s: the working directory is in no git repository: %w", tracked.Series.BaseCommit, err)
	}
	return "file://" + filepath.Clean(strings.TrimSpace(string(top))) + "#" + tracked.Series.BaseCommit, nil
}

// moveTo makes the directory of ringproof's source the working directory. What is named
// relative to the one before stays what it is.
func moveTo(home string, named ...*string) error {
	if home == "" {
		return nil
	}
	for _, path := range named {
		if _, err := os.Stat(*path); err != nil {
			continue // it is no file
		}
		at, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = at
	}
	if err := os.Chdir(home); err != nil {
		return fmt.Errorf("-C: %w", err)
	}
	return nil
}
