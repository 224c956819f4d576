package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// KCIDBConfig says how KernelCI knows the run.
type KCIDBConfig struct {
	// Origin is the name of the CI system, of lower-case letters, digits and "_".
	Origin string
	// Build is the id of the build that was tested, "origin:...", if it has been
	// submitted. Without one, a checkout and a build are described as far as they
	// are known.
	Build string
}

// The objects of KernelCI's database that a run becomes: the parts used here of
// version 5.3 of its schema (https://github.com/kernelci/kcidb-io,
// kcidb_io/schema/v05_03.py).
type (
	kcidb struct {
		Version   kcidbVersion    `json:"version"`
		Checkouts []kcidbCheckout `json:"checkouts,omitempty"`
		Builds    []kcidbBuild    `json:"builds,omitempty"`
		Tests     []kcidbTest     `json:"tests"`
	}
	kcidbVersion struct {
		Major int `json:"major"`
		Minor int `json:"minor"`
	}
	kcidbCheckout struct {
		ID      string `json:"id"`
		Origin  string `json:"origin"`
		Comment string `json:"comment"`
	}
	kcidbBuild struct {
		ID           string         `json:"id"`
		CheckoutID   string         `json:"checkout_id"`
		Origin       string         `json:"origin"`
		Architecture string         `json:"architecture"`
		Comment      string         `json:"comment"`
		Misc         map[string]any `json:"misc,omitempty"`
	}
	kcidbTest struct {
		ID          string         `json:"id"`
		BuildID     string         `json:"build_id"`
		Origin      string         `json:"origin"`
		Environment map[string]any `json:"environment"`
		Path        string         `json:"path"`
		Comment     string         `json:"comment"`
		LogExcerpt  string         `json:"log_excerpt,omitempty"`
		Status      string         `json:"status"`
		StartTime   string         `json:"start_time"`
		Misc        map[string]any `json:"misc,omitempty"`
	}
)

var kcidbOrigin = regexp.MustCompile(`^[a-z0-9_]+$`)

// mostExcerpt is how long a log_excerpt may be.
const mostExcerpt = 16384

// KCIDB is the run as KernelCI's database takes it: a test for each check and promise.
func (r *Run) KCIDB(cfg KCIDBConfig) ([]byte, error) {
	if !kcidbOrigin.MatchString(cfg.Origin) {
		return nil, fmt.Errorf("kcidb: the origin is %q, but must be of lower-case letters, digits and _: it names the CI system that submits", cfg.Origin)
	}
	if origin, id, _ := strings.Cut(cfg.Build, ":"); cfg.Build != "" && (!kcidbOrigin.MatchString(origin) || id == "") {
		return nil, fmt.Errorf("kcidb: the build is %q, but must be like %s:ID", cfg.Build, cfg.Origin)
	}
	if r.Started.IsZero() {
		return nil, errors.New("kcidb: the run does not say when it was started, and its tests would have no ids of their own")
	}
	name := fmt.Sprintf("%s:ringproof-%x", cfg.Origin, r.Started.UnixNano())
	out := kcidb{Version: kcidbVersion{5, 3}, Tests: []kcidbTest{}}
	if cfg.Build == "" {
		cfg.Build = name
		out.Checkouts = []kcidbCheckout{{ID: name, Origin: cfg.Origin, Comment: "the source of " + r.Booted()}}
		build := kcidbBuild{ID: name, CheckoutID: name, Origin: cfg.Origin, Architecture: cmp.Or(r.Arch, "x86_64"), Comment: r.Booted()}
		if r.BuildID != "" {
			build.Misc = map[string]any{"gnu_build_id": r.BuildID}
		}
		out.Builds = []kcidbBuild{build}
	}
	for i, v := range r.Verdicts {
		test := kcidbTest{
			ID: fmt.Sprintf("%s-%d", name, i), BuildID: cfg.Build, Origin: cfg.Origin,
			Environment: map[string]any{"comment": fmt.Sprintf("QEMU, %s", r.Accel)},
			Path:        kcidbPath(v), Status: kcidbStatus(v), StartTime: r.Started.UTC().Format(time.RFC3339Nano),
			Comment:    strings.TrimSpace(fmt.Sprintf("%s, contract %s, %s", v.Promise, v.Contract, v.Test)),
			LogExcerpt: v.Why,
		}
		if len(test.LogExcerpt) > mostExcerpt {
			test.LogExcerpt = strings.ToValidUTF8(test.LogExcerpt[:mostExcerpt], "")
		}
		if v.Books != nil {
			test.Misc = map[string]any{"books": v.Books}
		}
		out.Tests = append(out.Tests, test)
	}
	data, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the results for kcidb: %w", err)
	}
	return append(data, '\n'), nil
}

// kcidbStatus is the verdict's. What did not run because the guest died is missed:
// nothing is known, neither of the kernel nor of the check.
func kcidbStatus(v contract.Verdict) string {
	switch v.Outcome {
	case contract.Kept:
		return "PASS"
	case contract.Broken:
		return "FAIL"
	case contract.NotRun:
		return "SKIP"
	}
	if strings.HasSuffix(v.Why, contract.AfterDeath) {
		return "MISS"
	}
	return "ERROR"
}

// kcidbPath is where the check is in the tree of tests: ringproof, the promise, and
// the test's own path.
func kcidbPath(v contract.Verdict) string {
	path := []string{"ringproof", string(v.Promise)}
	for element := range strings.SplitSeq(v.Test, "/") {
		if element = notInPaths.ReplaceAllString(element, "_"); element != "" {
			path = append(path, element)
		}
	}
	return strings.Join(path, ".")
}

var notInPaths = regexp.MustCompile(`[^a-zA-Z0-9_-]+`)
