package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/report"
)

func TestJudged(t *testing.T) {
	of := func(outcomes ...contract.Outcome) *report.Run {
		r := &report.Run{}
		for _, o := range outcomes {
			r.Verdicts = append(r.Verdicts, contract.Verdict{Promise: contract.NoStall, Outcome: o})
		}
		return r
	}
	with := func(kind report.Kind, outcomes ...contract.Outcome) *report.Run {
		r := of(outcomes...)
		r.Errors = []report.Fault{{Kind: kind, What: "it happened"}}
		return r
	}
	noisy := func(outcome contract.Outcome) *report.Run {
		r := of(outcome)
		r.Noise = []report.Fault{{Kind: report.Kernel, What: "WARNING"}}
		return r
	}
	for _, tt := range []struct {
		name   string
		run    *report.Run
		failed error
		want   error
	}{
		{"kept", of(contract.Kept, contract.NotRun), nil, nil},
		{"broken", of(contract.Kept, contract.Undecided, contract.Broken), nil, broken},
		{"undecided", of(contract.Kept, contract.Undecided), nil, cannotTell},
		{"not run", of(contract.NotRun), nil, cannotTell},
		{"nothing", of(), nil, setUp},
		{"a guest that died", with(report.Kernel, contract.Kept), nil, cannotTell},
		{"a QEMU that was killed", with(report.SetUp, contract.Kept, contract.Undecided), nil, setUp},
		{"a test that ended without a word", with(report.Harness, contract.Kept), nil, ours},
		{"broken, and the disk was full", with(report.SetUp, contract.Broken), nil, broken},
		{"kept, with noise", noisy(contract.Kept), nil, nil},
		{"kept, and go test fails for no reason", of(contract.Kept), errors.New("exit status 1"), ours},
		{"broken, with noise", noisy(contract.Broken), nil, broken},
	} {
		if got := judged(t.Context(), tt.run, tt.failed); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if got := judged(ended, of(contract.Broken), nil); got != interrupted {
		t.Errorf("interrupted: %v", got)
	}
}

func TestUnbuilt(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want exitStatus
	}{
		{"a patch does not apply", fmt.Errorf("series: %w", &kernel.PatchError{}), cannotTell},
		{"an option is not to be had", &kernel.ConfigError{}, cannotTell},
		{"its Kconfig fails", &kernel.KconfigError{Err: errors.New("syntax error")}, cannotTell},
		{"the compiler refuses", &kernel.MakeError{Lines: []string{"tun.c:1: error: expected ';'"}, Err: errors.New("exit status 2")}, cannotTell},
		{"the compiler was killed", &kernel.MakeError{Lines: []string{"gcc: fatal error: Killed signal terminated program cc1"}, Err: errors.New("exit status 2")}, setUp},
		{"the disk is full", &kernel.MakeError{Err: &kernel.DiskFullError{}}, setUp},
		{"no gcc", &kernel.MissingError{}, setUp},
		{"no such directory", fmt.Errorf("kernel source /absent: %w", syscall.ENOENT), setUp},
	} {
		if got := unbuilt(t.Context(), tt.err); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestStatus holds every way to mistype a command to a status that ends a
// bisection.
func TestStatus(t *testing.T) {
	t.Setenv("KSRC", "")
	t.Setenv("SERIES", "")
	for _, args := range [][]string{
		{}, {"bisct"}, {"bisect"}, {"bisect", "-h"}, {"bisect", "-tests", "x"}, {"bisect", "-ksrc", "/absent"},
		{"bisect", "-ksrc", ".", "-contract", "losless"}, {"bisect", "-ksrc", "."}, {"bisect", "-series", "/absent"},
		{"bisect", "-ksrc", "/absent", "TestNoStall"}, {"check", "-ksrc", "/absent"}, {"check", "-contract", "losless"}, {"check", "-x"},
	} {
		if got := status(t.Context(), args); got != setUp {
			t.Errorf("ringproof %q: %v, want %v", args, got, setUp)
		}
	}
}
