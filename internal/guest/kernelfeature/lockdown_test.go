package kernelfeature

import "testing"

func TestOnlyLockdownConfidentialityRefuses(t *testing.T) {
	for text, refuses := range map[string]bool{
		"[none] integrity confidentiality\n": false,
		"none [integrity] confidentiality\n": false,
		"none integrity [confidentiality]\n": true,
		"[none] confidentiality\n":           false,
	} {
		if err := lockedDown(text); (err != nil) != refuses {
			t.Errorf("%q: %v", text, err)
		}
	}
}
