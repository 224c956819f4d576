package report

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/ringproof/ringproof/internal/contract"
)

// B4Check is a result in the protocol of b4's review checks
// (https://b4.docs.kernel.org/en/latest/maintainer/review.html, CI check
// integration).
type B4Check struct {
	// Tool is the column of b4's matrix.
	Tool string `json:"tool"`
	// Status is pass, warn or fail.
	Status  string `json:"status"`
	Summary string `json:"summary"`
	URL     string `json:"url,omitempty"`
	Details string `json:"details,omitempty"`
}

// B4 is the run as a review check: fail is a promise that is broken, and nothing
// else, and warn is what was not decided.
func (r *Run) B4() B4Check {
	status := map[contract.Outcome]string{contract.Kept: "pass", contract.Broken: "fail"}[r.Overall()]
	if status == "" {
		status = "warn"
	}
	return B4Check{Tool: "ringproof", Status: status, Summary: r.summary(), URL: "file://" + filepath.Join(r.Dir, "verdict.html"), Details: r.Text()}
}

// B4Fault says why there is no run: nothing is known of the series then. (A command
// that fails would be shown as a series that does.)
func B4Fault(err error) B4Check {
	return B4Check{Tool: "ringproof", Status: "warn", Summary: "not judged: " + firstLine(err.Error()), Details: err.Error()}
}

// FormatB4 is the array that b4 reads.
func FormatB4(checks ...B4Check) ([]byte, error) {
	data, err := json.MarshalIndent(checks, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the results for b4: %w", err)
	}
	return append(data, '\n'), nil
}
