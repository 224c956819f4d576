package selftest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/inject/order"
)

// TestRulesAreDocumented: docs/barriers.md has each rule of the order of stores, as it
// is applied.
func TestRulesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/barriers.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range slices.Concat(order.Rules, order.RulesA64) {
		if row := fmt.Sprintf("| %s | %s | %s |", r.Name, r.Says, r.Source); !strings.Contains(string(text), row) {
			t.Errorf("docs/barriers.md has no line\n%s", row)
		}
	}
}
