package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// onStdin runs a command with that on standard input, and returns its status and what
// it prints to standard output.
func onStdin(t *testing.T, input string, args ...string) (exitStatus, string) {
	t.Helper()
	in, err := os.Create(filepath.Join(t.TempDir(), "in"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, input); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	stdin, stdout := os.Stdin, os.Stdout
	os.Stdin, os.Stdout = in, out
	got := status(t.Context(), args)
	os.Stdin, os.Stdout = stdin, stdout
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return got, string(text)
}

// TestB4IsToldOfFaults: b4 shows a command that fails as a series that does, so what
// keeps a series from being judged is a warning.
func TestB4IsToldOfFaults(t *testing.T) {
	for _, name := range []string{"KSRC", "SERIES", "CONTRACT", "B4_TRACKING_FILE"} {
		t.Setenv(name, "")
	}
	const letter = "From: me@example.org\nMessage-ID: <1@example.org>\nSubject: [PATCH 0/1] x\n\nwhy\n"
	for _, tt := range []struct {
		name, mail, says string
		args             []string
	}{
		{"no mail", "", "read the mail", nil},
		{"no Message-ID", "Subject: x\n\nwhy\n", "no Message-ID", nil},
		{"no source", letter, "-ksrc", nil},
		{"no such source", letter, "/absent", []string{"-ksrc=/absent", "-series=/absent"}},
		{"no such contract", letter, "losless", []string{"-contract=losless"}},
	} {
		status, out := onStdin(t, tt.mail, append([]string{"b4", "-q"}, tt.args...)...)
		var checks []map[string]string
		if err := json.Unmarshal([]byte(out), &checks); err != nil || status != 0 || len(checks) != 1 {
			t.Fatalf("%s: status %d, %v: %q", tt.name, status, err, out)
		}
		if c := checks[0]; c["tool"] != "ringproof" || c["status"] != "warn" || !strings.Contains(c["summary"], tt.says) {
			t.Errorf("%s: %v does not warn of %q", tt.name, c, tt.says)
		}
	}
}

// TestTrackedBase: a series under review is for the commit that b4 has noted.
func TestTrackedBase(t *testing.T) {
	repo := t.TempDir()
	if out, err := exec.Command("git", "init", "--quiet", repo).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Mkdir(filepath.Join(repo, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(repo, "net"))
	tracking := filepath.Join(t.TempDir(), "tracking.json")
	for text, want := range map[string]string{
		`{"series": {"revision": 2, "base-commit": "0123abc"}, "patches": []}`: "file://" + repo + "#0123abc",
		`{"series": {}}`: "",
		`{`:              "",
	} {
		if err := os.WriteFile(tracking, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := trackedBase(t.Context(), tracking); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}

// TestMoveTo: a tree that is named where the command is typed is found from there.
func TestMoveTo(t *testing.T) {
	typed, home := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(typed, "linux"), 0o755); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{"linux": filepath.Join(typed, "linux"), ".": typed, "debian:6.12": "debian:6.12", "": ""} {
		t.Chdir(typed)
		if err := moveTo(home, &source); err != nil || source != want {
			t.Errorf("%q, %v; want %q", source, err, want)
		}
		if at, err := os.Getwd(); err != nil || at != home {
			t.Errorf("at %s, %v", at, err)
		}
	}
	source := "."
	if err := moveTo("/absent", &source); err == nil {
		t.Error("a directory that is not there")
	}
}

// TestNIPAStatus: netdev's CI is told of a failure only if a promise is broken.
func TestNIPAStatus(t *testing.T) {
	for judged, want := range map[error]exitStatus{nil: 0, broken: 1, cannotTell: 5, setUp: 4, ours: 4, interrupted: 4} {
		if got := nipaStatus(judged); got != want {
			t.Errorf("%v: %d, want %d", judged, got, want)
		}
	}
	t.Setenv("BRANCH", "")
	t.Setenv("RESULTS_DIR", "")
	if got := status(t.Context(), []string{"nipa"}); got != nipaSkip {
		t.Errorf("without the executor's variables: %d", got)
	}
	t.Setenv("BRANCH", "net-next")
	t.Setenv("RESULTS_DIR", t.TempDir())
	if got := status(t.Context(), []string{"nipa", "-ksrc=/absent"}); got != nipaSkip {
		t.Errorf("without a tree: %d", got)
	}
}

// TestHelp: each command that is listed says how it is used, and what it takes.
func TestHelp(t *testing.T) {
	for i, d := range docs {
		if i > 0 && docs[i-1].name >= d.name {
			t.Errorf("%s is listed behind %s", d.name, docs[i-1].name)
		}
		stderr := os.Stderr
		var err error
		if os.Stderr, err = os.Create(filepath.Join(t.TempDir(), "err")); err != nil {
			t.Fatal(err)
		}
		got := status(context.Background(), []string{"help", d.name})
		text, _ := os.ReadFile(os.Stderr.Name())
		os.Stderr = stderr
		if got != 0 || !strings.HasPrefix(string(text), "usage: ringproof "+d.name+" ") || !strings.Contains(string(text), strings.TrimSpace(d.long)) {
			t.Errorf("help %s: status %d: %s", d.name, got, text)
		}
	}
	if got, out := onStdin(t, "", "help"); got != 0 || !strings.HasPrefix(out, "Ringproof proves") {
		t.Errorf("help: status %d: %s", got, out)
	}
	if got := status(t.Context(), []string{"help", "bisct"}); got != setUp {
		t.Errorf("help for what is no command: %d", got)
	}
}
