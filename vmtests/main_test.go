package vmtests

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ringproof/ringproof/internal/host/run"
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

// theRun is started by the first test, so that -list and a -run that matches
// nothing cost nothing.
var theRun struct {
	*run.Run
	started bool
	err     error
}

func startRun(t *testing.T) *run.Run {
	if !theRun.started {
		theRun.started = true
		theRun.Run, theRun.err = openRun(t)
	}
	if theRun.err != nil {
		t.Fatal(theRun.err)
	}
	return theRun.Run
}

func openRun(t *testing.T) (*run.Run, error) {
	cfg, err := run.ConfigFromEnv()
	if err != nil {
		return nil, run.Refuse(cfg, err)
	}
	if cfg.Module, err = filepath.Abs(".."); err != nil {
		return nil, err
	}
	cfg.Package, cfg.Suite = "./vmtests/guest", testsIn(t, "guest")
	flags := run.Flags{
		Run:      flag.Lookup("test.run").Value.String(),
		Skip:     flag.Lookup("test.skip").Value.String(),
		Short:    testing.Short(),
		FailFast: flag.Lookup("test.failfast").Value.String() == "true",
	}
	fmt.Sscan(flag.Lookup("test.count").Value.String(), &flags.Count)
	flags.Deadline, _ = t.Deadline()
	r, err := run.Start(cfg, flags)
	if err != nil {
		return nil, run.Refuse(cfg, err)
	}
	return r, nil
}

func runTests(m *testing.M) int {
	flag.Parse()
	pattern := flag.Lookup("test.run").Value
	if err := pattern.Set(run.Pattern(pattern.String())); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	code := m.Run()
	if theRun.Run == nil {
		return code
	}
	if code != 0 {
		theRun.Failed()
	}
	result := theRun.Finish()
	fmt.Printf("\n%s\n", result.Text())
	if len(result.Errors) > 0 && code == 0 {
		code = 1
	}
	if err := noteLast(result.Dir); err != nil {
		fmt.Fprintf(os.Stderr, "artifacts/last does not name this run: %v\n", err)
	}
	if err := neverCached(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// neverCached keeps go test from ever answering "(cached)": it does not see when
// a kernel outside of this module changes (cmd/go: computeTestInputsID), but it
// does not cache a test whose log of what it read is not there (saveOutput).
func neverCached() error {
	log := flag.Lookup("test.testlogfile").Value.String()
	if log == "" {
		return nil
	}
	if err := os.Truncate(log, 0); err != nil {
		return fmt.Errorf("keep go test from caching this result: %w", err)
	}
	return nil
}

// noteLast leaves in the module where the last run's artifacts are. The module
// may be somebody else's, or read-only.
func noteLast(dir string) error {
	last := filepath.Join("..", "artifacts", "last")
	if err := os.MkdirAll(filepath.Dir(last), 0o755); err != nil {
		return err
	}
	return os.WriteFile(last, []byte(dir+"\n"), 0o644)
}
