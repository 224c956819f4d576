package main

import (
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
)

func TestVerdict(t *testing.T) {
	of := func(outcomes ...contract.Outcome) *report.Run {
		r := &report.Run{}
		for _, o := range outcomes {
			r.Verdicts = append(r.Verdicts, contract.Verdict{Promise: contract.NoStall, Outcome: o})
		}
		return r
	}
	died := of(contract.Kept)
	died.Errors = []string{"the guest panicked"}
	for _, tt := range []struct {
		name string
		run  *report.Run
		want error
	}{
		{"kept", of(contract.Kept, contract.NotRun), nil},
		{"broken", of(contract.Kept, contract.Undecided, contract.Broken), bad},
		{"undecided", of(contract.Kept, contract.Undecided), cannotTell},
		{"not run", of(contract.NotRun), cannotTell},
		{"nothing", of(), cannotTell},
		{"a guest that died", died, cannotTell},
	} {
		if got := verdict(tt.run); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
