package bench

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// kept is a boot's outcome on disk, with what it was a boot of.
type kept struct {
	Key     string
	Outcome Outcome
}

const outcomeFile = "outcome.json"

// key says what a boot is of: two with the same one are the same.
func (r *Result) key(j job, workloads string) (string, error) {
	h := sha256.New()
	for _, file := range []string{j.variant.Kernel.Kernel.Image, r.Config.Image} {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", fmt.Errorf("read %s: %w", file, err)
		}
	}
	fmt.Fprintln(h, j.variant.Backpressure, j.ruler, j.nth, workloads, r.Config.All, r.Config.Rounds, r.Config.Accel, r.Config.CPUs, r.Config.Plugin != nil)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// recall returns what a boot has given, if it is there. One that failed is done again.
func recall(dir, key string) (*Outcome, bool) {
	text, err := os.ReadFile(filepath.Join(dir, outcomeFile))
	if err != nil {
		return nil, false
	}
	var k kept
	if json.Unmarshal(text, &k) != nil || k.Key != key || k.Outcome.Failed != "" {
		return nil, false
	}
	return &k.Outcome, true
}

func remember(dir, key string, o *Outcome) error {
	text, err := json.MarshalIndent(kept{key, *o}, "", "\t")
	if err != nil {
		return err
	}
	// Whole or not at all.
	tmp := filepath.Join(dir, outcomeFile+".new")
	if err := os.WriteFile(tmp, append(text, '\n'), 0o666); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, outcomeFile))
}
