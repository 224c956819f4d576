package run

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ringproof/ringproof/internal/host/report"
)

// Refuse writes down why a run could not start, if a directory for its artifacts was
// named that holds none of another run, and returns what to tell the user.
func Refuse(cfg Config, why error) error {
	said := fmt.Errorf("fault of the set-up: %w", why)
	if !filepath.IsAbs(cfg.Dir) {
		return said
	}
	if entries, err := os.ReadDir(cfg.Dir); len(entries) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		return said
	}
	refused := report.Run{
		Dir: cfg.Dir, Label: cfg.Label, Kernel: cfg.Kernel, Contract: cfg.Contract, Shard: cfg.Shard.String(), Command: cfg.command("go test ./vmtests"), Started: time.Now(),
		Errors: []report.Fault{{Kind: report.SetUp, What: why.Error()}},
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return errors.Join(said, err)
	}
	if err := refused.WriteAll(); err != nil {
		return errors.Join(said, err)
	}
	return said
}

// saveEvery is how much may be lost of what was found out if the run is killed.
const saveEvery = 2 * time.Second

// save writes what there is so far, for the case that the process is killed. A
// failure shows again when the run ends.
func (r *Run) save() {
	if r.log == nil || time.Since(r.saved) < saveEvery {
		return // there are no artifacts, or nothing much is new
	}
	r.saved = time.Now()
	sofar := r.result
	sofar.Seconds = time.Since(sofar.Started).Seconds()
	sofar.Errors = append(slices.Clone(sofar.Errors), report.Fault{Kind: report.SetUp, What: "the run has not ended: it is still running, or was killed"})
	_ = sofar.Write()
}

func (r *Run) openArtifacts() error {
	dir := r.cfg.Dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory for artifacts: %w; give another one, ARTIFACTS=DIR", err)
	}
	if entries, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("artifacts: %w", err)
	} else if len(entries) > 0 {
		return fmt.Errorf("artifacts: %s is not empty, and a directory is for one run; give another one, ARTIFACTS=DIR", dir)
	}
	var err error
	r.log, err = createArtifact(filepath.Join(dir, "events.jsonl"))
	return err
}

// artifact is a file that is written as the run goes on. It can be written to
// after an error, which close returns: results count for more than files.
type artifact struct {
	file *os.File
	err  error
}

func createArtifact(path string) (*artifact, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create an artifact: %w; give another directory, ARTIFACTS=DIR", err)
	}
	return &artifact{file: file}, nil
}

var _ io.Writer = (*artifact)(nil)

func (a *artifact) Write(p []byte) (int, error) {
	if a.err == nil {
		_, a.err = a.file.Write(p)
	}
	return len(p), nil
}

func (a *artifact) close() error {
	if err := errors.Join(a.err, a.file.Close()); err != nil {
		return fmt.Errorf("the artifacts are not complete: %w", err)
	}
	return nil
}
