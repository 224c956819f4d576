package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/run"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// runInside runs the guest's tests on the kernel that runs already.
func runInside(ctx context.Context, args []string) error {
	flags := newFlags("inside")
	program := flags.String("guest", "", "`program` with the tests, compiled by go test -c ./vmtests/guest; without one, it is compiled first")
	want := flags.String("contract", os.Getenv("CONTRACT"), "the `contract` to test: auto, stock, lossless, rare-drop or opt-in")
	out := flags.String("o", "", "new `directory` for the artifacts; without one, a directory below artifacts/")
	var testFlags run.Flags
	flags.StringVar(&testFlags.Run, "run", "", "`tests` to run, as go test's -run")
	flags.StringVar(&testFlags.Skip, "skip", "", "`tests` to leave out, as go test's -skip")
	flags.BoolVar(&testFlags.Short, "short", false, "seconds instead of minutes")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("inside: unexpected argument %q", flags.Arg(0))
	}
	cfg, err := run.ConfigFromEnv()
	if err != nil {
		return err
	}
	if cfg.Contract, err = contract.Parse(*want); err != nil {
		return err
	}
	cfg.Kernel = "" // this one
	testFlags.Run, testFlags.Count = run.Pattern(testFlags.Run), 1
	if *out != "" {
		cfg.Dir = *out
	}
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join("artifacts", time.Now().Format("2006-01-02T15-04-05")+"-inside")
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return err
	}
	again, err := insideCommand(*program, *want)
	if err != nil {
		return err
	}
	if *program == "" {
		dir, err := os.MkdirTemp("", "ringproof-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		*program = filepath.Join(dir, "guest.test")
		compile := exec.CommandContext(ctx, "go", "test", "-c", "-o", *program, "./vmtests/guest")
		if text, err := compile.CombinedOutput(); err != nil {
			return fmt.Errorf("inside: compile the tests: %w\n%s", err, text)
		}
	}
	if *program, err = filepath.Abs(*program); err != nil {
		return err
	}
	result, err := run.Inside(ctx, cfg, *program, again, testFlags)
	if err != nil {
		return err
	}
	fmt.Print(result.Text())
	return judged(ctx, result, nil)
}

// insideCommand is what runs "ringproof inside" again, from any directory if the tests
// are compiled, else from this one.
func insideCommand(tests, promised string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("inside: find out which program runs: %w", err)
	}
	command := vm.Quote(self)
	if strings.Contains(self, "/go-build") { // go run, which removes it
		command = "go run ./cmd/ringproof"
	}
	if os.Getenv(contract.GuestEnv) == "1" {
		command = contract.GuestEnv + "=1 " + command
	}
	command += " inside"
	if tests != "" {
		if tests, err = filepath.Abs(tests); err != nil {
			return "", err
		}
		command += " -guest " + vm.Quote(tests)
	}
	if promised != os.Getenv("CONTRACT") { // which is repeated as all of the environment
		command += " -contract " + vm.Quote(promised)
	}
	return command, nil
}
