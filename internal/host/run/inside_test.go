package run

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// events are test2json's lines of a test that owes no-stall and decides it, cut off
// after so many of them.
func insideEvents(outcome contract.Outcome, ends string, n int) string {
	lines := []string{
		`{"Action":"start"}`,
		`{"Action":"run","Test":"TestA"}`,
		`{"Action":"run","Test":"TestA/x/y"}`,
		`{"Action":"attr","Test":"TestA/x/y","Key":"ringproof.owes","Value":"{\"Contract\":\"lossless\",\"Promises\":[\"no-stall\"]}"}`,
		`{"Action":"output","Test":"TestA/x/y","Output":"    a_test.go:1: it is told\n"}`,
		fmt.Sprintf(`{"Action":"attr","Test":"TestA/x/y","Key":"ringproof.verdict","Value":"{\"Test\":\"TestA/x/y\",\"Promise\":\"no-stall\",\"Outcome\":\"%s\"}"}`, outcome),
		fmt.Sprintf(`{"Action":"%s","Test":"TestA/x/y"}`, ends),
		fmt.Sprintf(`{"Action":"%s","Test":"TestA"}`, ends),
	}
	return strings.Join(lines[:n], "\n") + "\n"
}

// TestInside: what a test program that runs here says is judged as that of a guest:
// whatever ends it, each promise that it owes is decided or undecided.
func TestInside(t *testing.T) {
	for _, tt := range []struct {
		name    string
		events  string
		want    contract.Outcome
		failed  int
		left    bool
		harness bool
	}{
		{"kept", insideEvents(contract.Kept, "pass", 8), contract.Kept, 0, false, false},
		{"broken", insideEvents(contract.Broken, "fail", 8), contract.Broken, 1, false, false},
		{"cut off before its verdict", insideEvents(contract.Kept, "pass", 5), contract.Undecided, 1, true, false},
		{"cut off before its end", insideEvents(contract.Kept, "pass", 6), contract.Undecided, 1, true, true},
		{"failed for no reason", insideEvents(contract.Kept, "fail", 8), contract.Kept, 1, false, true},
	} {
		r := &Run{result: report.Run{Dir: t.TempDir()}}
		var err error
		if r.log, err = createArtifact(filepath.Join(t.TempDir(), "events.jsonl")); err != nil {
			t.Fatal(err)
		}
		in := inside{run: r, checks: make(map[string]*Check), inner: make(map[string]bool), stop: func() {}}
		if err := in.follow(strings.NewReader(tt.events)); err != nil {
			t.Fatal(err)
		}
		if left := in.left(); left != tt.left {
			t.Errorf("%s: left is %v", tt.name, left)
		}
		i := slices.IndexFunc(r.result.Promises(), func(p report.Promise) bool { return p.Promise == contract.NoStall })
		if got := r.result.Promises()[i].Outcome; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if r.result.Tests.Failed != tt.failed || r.result.Tests.Passed != 1-tt.failed {
			t.Errorf("%s: %+v", tt.name, r.result.Tests)
		}
		if r.result.Has(report.Harness) != tt.harness {
			t.Errorf("%s: %v", tt.name, r.result.Errors)
		}
	}
}

// TestInsideIsEnded: a test program in which something is overdue is ended, and that is
// a verdict.
func TestInsideIsEnded(t *testing.T) {
	r := &Run{result: report.Run{Dir: t.TempDir()}}
	var err error
	if r.log, err = createArtifact(filepath.Join(t.TempDir(), "events.jsonl")); err != nil {
		t.Fatal(err)
	}
	ended := false
	in := inside{run: r, checks: make(map[string]*Check), inner: make(map[string]bool), stop: func() { ended = true }}
	events := insideEvents(contract.Kept, "pass", 4) + `{"Action":"attr","Test":"TestA/x/y","Key":"ringproof.overdue","Value":"{\"What\":\"schedule s\",\"Limit\":90000000000,\"Seen\":[\"a txq spins\"]}"}` + "\n"
	if err := in.follow(strings.NewReader(events)); err != nil || !ended || !in.overdue {
		t.Fatalf("%v, ended is %v", err, ended)
	}
	in.left()
	if v := r.result.Verdicts[0]; v.Outcome != contract.Broken || !strings.Contains(v.Why, "a txq spins") {
		t.Errorf("%+v", v)
	}
	if err := in.follow(strings.NewReader("{\n")); err == nil {
		t.Error("what is no event is taken")
	}
}

// TestInsideOfWhat: a machine is changed only if it is there for that.
func TestInsideOfWhat(t *testing.T) {
	for _, tt := range []struct {
		cmdline, env string
		want         bool
	}{
		{"BOOT_IMAGE=/vmlinuz root=/dev/vda1 quiet", "", false},
		{"root=/dev/virtme quiet", "", false},
		{"", "yes", false},
		{"init=/bin/sh root=x", "1", true},
		{"virtme_hostname=virtme-ng console=ttyS0 init=/usr/lib/virtme/guest/bin/virtme-ng-init", "", true},
		{"console=ttyS0 virtme.exec=`bHM=`", "", true},
	} {
		if got := forTests(tt.cmdline, tt.env); got != tt.want {
			t.Errorf("%q, %q: %v", tt.cmdline, tt.env, got)
		}
	}
}

// TestLogRecords: what the kernel reports while a test runs is that test's.
func TestLogRecords(t *testing.T) {
	var log strings.Builder
	for i, text := range []string{"ringproof: begin TestA/x", "WARNING: CPU: 0 PID: 1 at drivers/net/tun.c:1 f+0x1/0x2", " f+0x1/0x2", "---[ end trace 0 ]---", "ringproof: end TestA/x"} {
		log.WriteString(message(fmt.Sprintf("4,%d,1000,-;%s\n SUBSYSTEM=net\n", i, text)))
	}
	reports := vm.KernelReports(log.String())
	if len(reports) != 1 || reports[0].Kind != vm.Warning || reports[0].Test != "TestA/x" || strings.Contains(reports[0].Text, "SUBSYSTEM") {
		t.Errorf("%+v", reports)
	}
}
