package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/host/report"
)

// TestStockReportsAreKnown: what the stock kernel reports is known for the patched
// one, and so is what the user's own file names.
func TestStockReportsAreKnown(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own")
	if err := os.WriteFile(own, []byte("of mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KNOWN", own)
	quiet := &report.Run{Dir: t.TempDir()}
	if env, err := alsoKnown(quiet); err != nil || env != nil {
		t.Errorf("a stock kernel that reports nothing: %v, %v", env, err)
	}
	noisy := &report.Run{Dir: t.TempDir(), Errors: []report.Fault{{Kind: report.Kernel, Title: "WARNING: CPU: 0 PID: 1 at drivers/net/tun.c:3843 noise+0x1d/0x30"}}}
	env, err := alsoKnown(noisy)
	if err != nil || len(env) != 1 {
		t.Fatalf("%v, %v", env, err)
	}
	text, err := os.ReadFile(strings.TrimPrefix(env[0], "KNOWN="))
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"of mine\n", `drivers/net/tun\.c:\d+ noise\+`} {
		if !strings.Contains(string(text), says) {
			t.Errorf("%s\ndoes not say %q", text, says)
		}
	}
	t.Setenv("KNOWN", filepath.Join(t.TempDir(), "absent"))
	if _, err := alsoKnown(noisy); err == nil || !strings.Contains(err.Error(), "KNOWN") {
		t.Errorf("no such file: %v", err)
	}
}
