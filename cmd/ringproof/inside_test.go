package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
)

// TestInsideIsReplayed runs the command that a finding of a run inside another VM
// names, from another directory: it asks the same tests for that schedule alone, with
// the same contract and environment.
func TestInsideIsReplayed(t *testing.T) {
	if f, err := os.Open("/dev/kmsg"); err != nil {
		t.Skipf("the kernel's log cannot be read: %v", err)
	} else {
		f.Close()
	}
	dir := t.TempDir()
	ringproof := filepath.Join(dir, "it's ringproof")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", ringproof, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	value := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const schedule = "tun_net_xmit+0x275/drain-all/ring=2/fq_codel"
	said := fmt.Sprintf("^=== RUN   TestA\n^=== ATTR  TestA %s %s\n^=== ATTR  TestA %s %s\n^--- FAIL: TestA (0.00s)\n^=== NAME  \n^FAIL\n",
		contract.AttrFinding, value(contract.Finding{Promise: contract.NoStall, Schedule: schedule, Tries: 10, Failed: 10}),
		contract.AttrVerdict, value(contract.Verdict{Test: "TestA", Promise: contract.NoStall, Outcome: contract.Broken}))
	if err := os.WriteFile(filepath.Join(dir, "said"), []byte(strings.ReplaceAll(said, "^", "\x16")), 0o644); err != nil {
		t.Fatal(err)
	}
	// The tests write down what they were asked for.
	tests := filepath.Join(dir, "guest.test")
	if err := os.WriteFile(tests, []byte("#!/bin/sh\ncd "+dir+"\necho CONTRACT=$CONTRACT REPLAYS=$REPLAYS \"$@\" >asked\ncat said\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	asked := func(how *exec.Cmd) string {
		if out, err := how.CombinedOutput(); how.ProcessState.ExitCode() != int(broken) {
			t.Fatalf("%v: %v, want status %d\n%s", how, err, broken, out)
		}
		text, err := os.ReadFile(filepath.Join(dir, "asked"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}

	first := exec.CommandContext(t.Context(), ringproof, "inside", "-guest", "guest.test", "-contract", "lossless", "-short", "-o", "first")
	first.Dir = dir
	first.Env = append(os.Environ(), contract.GuestEnv+"=1", "REPLAYS=3")
	all := asked(first)
	if !strings.Contains(all, "-test.short") {
		t.Errorf("the first time the tests were asked for %s", all)
	}
	run, err := report.Read(filepath.Join(dir, "first"))
	if err != nil {
		t.Fatal(err)
	}
	if len(run.Findings) != 1 {
		t.Fatalf("there are %d findings, want 1", len(run.Findings))
	}
	again := exec.CommandContext(t.Context(), "sh", "-c", run.Findings[0].Replay)
	again.Dir = t.TempDir()
	alone := asked(again)
	for _, want := range []string{"CONTRACT=lossless", "REPLAYS=3", `-test.run=Schedules/^tun_net_xmit\+0x275$/drain-all/ring=2/fq_codel`} {
		if !strings.Contains(alone, want) {
			t.Errorf("%s asks the tests for %s, which lacks %s", run.Findings[0].Replay, alone, want)
		}
	}
	if strings.Contains(alone, "-test.short") {
		t.Errorf("%s asks for %s: -short may leave the schedule out", run.Findings[0].Replay, alone)
	}
}
