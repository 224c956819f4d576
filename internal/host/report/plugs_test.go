package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// ended is a run that ended with these verdicts on no-stall, and these faults.
func ended(faults []Fault, outcomes ...contract.Outcome) *Run {
	r := &Run{Release: "7.3.0", Accel: "tcg", Started: time.Unix(1700000000, 5), Seconds: 61.5, Errors: faults}
	for i, o := range outcomes {
		r.Verdicts = append(r.Verdicts, contract.Verdict{
			Test: fmt.Sprintf("TestNoStall/fq_codel/len%d/a+0x1&b", i), Promise: contract.NoStall, Contract: contract.OptIn, Outcome: o, Why: "why " + string(o),
		})
	}
	return r
}

var (
	setUpFault  = []Fault{{Kind: SetUp, What: "the disk is full\nmore of it"}}
	kernelFault = []Fault{{Kind: Kernel, What: "WARNING: x\n[    1.0] RIP: 0010:tun_net_xmit+0x10/0x200\n[    1.0] Call Trace:\n[    1.0]  <TASK>\n[    1.0]  dev_hard_start_xmit+0x1/0x2\n[    1.0]  sch_direct_xmit+0x3/0x4"}}
)

// TestOneWord: nothing but kept promises is kept, and nothing but a broken one
// broken, in the words of each of those who ask.
func TestOneWord(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  *Run
		want contract.Outcome
		b4   string
		nipa string
	}{
		{"kept", ended(nil, contract.Kept, contract.NotRun), contract.Kept, "pass", "pass"},
		{"broken", ended(setUpFault, contract.Kept, contract.Broken, contract.Undecided), contract.Broken, "fail", "fail"},
		{"undecided", ended(nil, contract.Kept, contract.Undecided), contract.Undecided, "warn", "warn"},
		{"kept, but a fault of the set-up", ended(setUpFault, contract.Kept), contract.Undecided, "warn", "warn"},
		{"kept, but the kernel warned", ended(kernelFault, contract.Kept), contract.Undecided, "warn", "warn"},
		{"not run", ended(nil, contract.NotRun), contract.NotRun, "warn", "skip"},
		{"nothing", ended(nil), contract.NotRun, "warn", "skip"},
		{"kept, but a test failed", &Run{Verdicts: ended(nil, contract.Kept).Verdicts, Tests: Tests{Failed: 1}}, contract.Undecided, "warn", "warn"},
	} {
		if got := tt.run.Overall(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if got := tt.run.B4(); got.Status != tt.b4 || got.Summary == "" || strings.Contains(got.Summary, "\n") || !strings.Contains(got.Details, "PROMISE") {
			t.Errorf("%s: b4 is told %+v, want %s", tt.name, got, tt.b4)
		}
		if got := NIPAResult(tt.run.Overall()); got != tt.nipa {
			t.Errorf("%s: NIPA is told %s, want %s", tt.name, got, tt.nipa)
		}
	}
}

// TestB4: b4 reads an array of what its documentation names, and no fault of the set-up
// is a verdict on a series.
func TestB4(t *testing.T) {
	text, err := FormatB4(ended(nil, contract.Broken).B4(), B4Fault(errors.New("no gcc\ninstall it")))
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]string
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for i, want := range []map[string]string{
		{"tool": "ringproof", "status": "fail", "summary": "no-stall BROKEN"},
		{"tool": "ringproof", "status": "warn", "summary": "not judged: no gcc"},
	} {
		for key, value := range want {
			if got[i][key] != value {
				t.Errorf("%s is %q, want %q", key, got[i][key], value)
			}
		}
	}
}

func TestNIPA(t *testing.T) {
	text, err := ended(kernelFault, contract.Kept, contract.Broken, contract.NotRun, contract.Undecided).NIPA("net-next-2026-11-27", "https://ci.example.org/1")
	if err != nil {
		t.Fatal(err)
	}
	var got nipaResults
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Executor != "ringproof" || got.Branch != "net-next-2026-11-27" || got.Start != "2023-11-14 22:13:20.000000+00:00" || got.End != "2023-11-14 22:14:21.500000+00:00" {
		t.Errorf("%+v", got)
	}
	if len(got.Results) != 2 {
		t.Fatalf("%d tests: %+v", len(got.Results), got.Results)
	}
	promise, health := got.Results[0], got.Results[1]
	var nested []string
	for _, n := range promise.Results {
		nested = append(nested, n.Result)
	}
	if promise.Test != "no-stall" || promise.Result != "fail" || !slices.Equal(nested, []string{"pass", "fail", "skip", "warn"}) || promise.Results[0].Test != "TestNoStall-fq-codel-len0-a-0x1-b" {
		t.Errorf("%+v", promise)
	}
	if health.Result != "fail" || !slices.Equal(health.Crashes, []string{"tun_net_xmit:dev_hard_start_xmit:sch_direct_xmit"}) {
		t.Errorf("%+v", health)
	}
}

func TestKCIDB(t *testing.T) {
	run := ended(nil, contract.Kept, contract.Broken, contract.NotRun, contract.Undecided, contract.Undecided)
	run.BuildID = "abcd"
	run.Verdicts[4].Why = "the guest ended early: kernel panic" + contract.AfterDeath
	run.Verdicts[1].Why = strings.Repeat("é", mostExcerpt)
	run.Verdicts[0].Books = &contract.Books{Offered: 7}
	text, err := run.KCIDB(KCIDBConfig{Origin: "my_ci"})
	if err != nil {
		t.Fatal(err)
	}
	var got kcidb
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`^my_ci:[^\0]*$`)
	path := regexp.MustCompile(`^([a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*)?$`)
	ids := make(map[string]bool)
	var statuses []string
	for _, test := range got.Tests {
		statuses = append(statuses, test.Status)
		if !id.MatchString(test.ID) || ids[test.ID] || test.BuildID != got.Builds[0].ID || !path.MatchString(test.Path) || len(test.LogExcerpt) > mostExcerpt {
			t.Errorf("%+v", test)
		}
		ids[test.ID] = true
	}
	if want := []string{"PASS", "FAIL", "SKIP", "ERROR", "MISS"}; !slices.Equal(statuses, want) {
		t.Errorf("%v, want %v", statuses, want)
	}
	if got.Tests[0].Path != "ringproof.no-stall.TestNoStall.fq_codel.len0.a_0x1_b" || got.Builds[0].CheckoutID != got.Checkouts[0].ID {
		t.Errorf("%s, %+v", got.Tests[0].Path, got.Builds)
	}
	if text, err := run.KCIDB(KCIDBConfig{Origin: "my_ci", Build: "theirs:1"}); err != nil || strings.Contains(string(text), "checkouts") || !strings.Contains(string(text), `"build_id": "theirs:1"`) {
		t.Errorf("a build that is known: %v\n%s", err, text)
	}
	for _, cfg := range []KCIDBConfig{{}, {Origin: "My CI"}, {Origin: "ci", Build: "1"}, {Origin: "ci", Build: "ci:"}} {
		if _, err := run.KCIDB(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}
