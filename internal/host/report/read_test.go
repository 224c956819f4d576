package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
)

func runDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// events are those of a run that was cut off in its second test.
const events = `{"Time":"2026-11-27T08:00:00Z","Action":"start"}
{"Time":"2026-11-27T08:00:01Z","Action":"run","Test":"TestNoStall"}
{"Time":"2026-11-27T08:00:01Z","Action":"run","Test":"TestNoStall/tap"}
{"Time":"2026-11-27T08:00:02Z","Action":"attr","Test":"TestNoStall/tap","Key":"ringproof.verdict","Value":"{\"Test\":\"TestNoStall/tap\",\"Promise\":\"no-stall\",\"Contract\":\"lossless\",\"Outcome\":\"kept\"}"}
{"Time":"2026-11-27T08:00:02Z","Action":"pass","Test":"TestNoStall/tap"}
{"Time":"2026-11-27T08:00:02Z","Action":"pass","Test":"TestNoStall"}
{"Time":"2026-11-27T08:00:03Z","Action":"run","Test":"TestSchedules"}
{"Time":"2026-11-27T08:00:04Z","Action":"run","Test":"TestSchedules/tun_net_xmit/reattach/ring=2/fq_codel"}
{"Time":"2026-11-27T08:00:05Z","Action":"attr","Test":"TestSchedules/tun_net_xmit/reattach/ring=2/fq_codel","Key":"ringproof.finding","Value":"{\"Promise\":\"no-stall\",\"Schedule\":\"tun_net_xmit+0x10/reattach/ring=2/fq_codel\",\"Failed\":10,\"Tries\":10,\"From\":{\"Name\":\"tun_net_xmit+0x10\"},\"To\":{\"Name\":\"tun_net_xmit+0x10\"},\"Points\":1,\"Why\":\"it stays\"}"}
{"Time":"2026-11-27T08:00:06Z","Action":"outp`

// TestRead: whatever is left of a run is read, and a report says what is missing.
func TestRead(t *testing.T) {
	old := `{"kernel":"/bzImage","release":"7.3.0","contract":"auto","seconds":1,"errors":["the guest ended early"],
"verdicts":[{"Test":"TestSchedules/tun_net_xmit/reattach/ring=2/fq_codel","Promise":"no-stall","Outcome":"broken","Why":"it stays"},
{"Test":"TestPairSchedules/producer-first/ring=1","Promise":"no-tail-drop","Outcome":"broken","Why":"1 of 4"}],
"findings":[{"Promise":"no-stall","Schedule":"tun_net_xmit+0x10/reattach/ring=2/fq_codel","Replay":"again"},
{"Promise":"no-tail-drop","Schedule":"tun_net_xmit+0x10&tun_do_read+0x1/ring=1/fq_codel","Replay":"again"}]}`
	for _, tt := range []struct {
		name  string
		files map[string]string
		says  []string // by the report
		fails string   // by the error, instead
	}{
		{"of a version without one", map[string]string{"verdict.json": old},
			[]string{"fault: the guest ended early\n", "finding 1: no-tail-drop", "finding 2: no-stall"}, ""},
		{"of a newer version", map[string]string{"verdict.json": `{"version": 99}`}, nil, "has version 99"},
		{"cut off before there was a verdict", map[string]string{"events.jsonl": events},
			[]string{"the run has not ended", "no-stall        BROKEN", "verdict.json is not whole", "finding 1: no-stall"}, ""},
		{"copied in part", map[string]string{"events.jsonl": events, "verdict.json": old[:100]},
			[]string{"verdict.json is not whole (unexpected end of JSON input)", "1 test passed, 1 failed"}, ""},
		{"without events either", map[string]string{"verdict.json": "{"}, nil, "events.jsonl"},
		{"with events that are none", map[string]string{"events.jsonl": "\x00\x00"}, nil, "holds no events"},
		{"of something else", map[string]string{"notes": "x"}, nil, "no run in "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := runDir(t, tt.files)
			r, err := Read(dir)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Fatalf("%v, want an error that says %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text := r.Text()
			for _, says := range append(tt.says, "artifacts: "+dir+"\n") {
				if !strings.Contains(text, says) {
					t.Errorf("%s\ndoes not say %q", text, says)
				}
			}
			for _, v := range r.Verdicts {
				if v.Outcome == contract.Broken && !r.found(&v) {
					t.Errorf("no finding belongs to %s", v.Test)
				}
			}
		})
	}
	if _, err := Read(filepath.Join(t.TempDir(), "absent")); err == nil || !strings.Contains(err.Error(), "no run: ") {
		t.Errorf("no directory: %v", err)
	}
}

// TestGuestThatDied: each form says that the guest died, and none that a promise is
// kept.
func TestGuestThatDied(t *testing.T) {
	r := &Run{Dir: t.TempDir(), Release: "7.3.0", Errors: []Fault{{Kind: Kernel, Test: "TestNoStall", What: "the guest ended early: the kernel panicked\n    Kernel panic - not syncing: Fatal exception"}}}
	for _, p := range contract.Promises() {
		r.Verdicts = append(r.Verdicts, contract.Verdict{Test: "TestNoStall", Promise: p, Contract: contract.Lossless, Outcome: contract.Undecided, Why: "the guest ended early: the kernel panicked; the checks after it did not run"})
	}
	if r.Headline() != "5 promises undecided, 1 fault" {
		t.Error(r.Headline())
	}
	for _, form := range Formats() {
		text, err := r.Format(form)
		if err != nil {
			t.Fatal(err)
		}
		said := strings.Join(strings.Fields(string(text)), " ") // whatever the lines
		if !strings.Contains(said, "the guest ended early: the kernel panicked") {
			t.Errorf("%s does not say that the guest died:\n%s", form, text)
		}
		if strings.Contains(string(text), "\n  ok ") || strings.Contains(said, `"Outcome": "kept"`) || strings.Contains(said, "promise kept") {
			t.Errorf("%s says that something was kept:\n%s", form, text)
		}
	}
}
