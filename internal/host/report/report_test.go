package report

import (
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
)

func TestUnknownPathsAreNamedOnceWithWhatAllChecksAllow(t *testing.T) {
	nothing, device, qdisc := contract.NoCounter, contract.TxDropped, contract.QdiscDrops
	var r Run
	r.AddUnknown(contract.Paths{"A@f": {nothing, device, qdisc}, "B@g": {device}})
	r.AddUnknown(contract.Paths{"A@f": {nothing, qdisc}})
	r.AddUnknown(contract.Paths{"B@g": {qdisc}, "C@h": {device}})
	text := r.Text()
	for _, want := range []string{
		"unknown path: packets were freed by A@f: counted by nothing or the qdisc's drops\n",
		"unknown path: packets were freed by B@g: what counts them is not clear\n",
		"unknown path: packets were freed by C@h: counted by tx_dropped\n",
	} {
		if strings.Count(text, want) != 1 {
			t.Errorf("want once: %s\n%s", want, text)
		}
	}
	r.AddUnknown(contract.Paths{"B@g": {device}})
	if again := r.Text(); again != text {
		t.Errorf("what is not clear does not become clear:\n%s", again)
	}
}
