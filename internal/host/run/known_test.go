package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/host/vm"
)

func TestKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("# since 6.9\n\n  at drivers/net/tun\\.c:\\d+ noise  \n")
	patterns, err := readKnown(file)
	if err != nil || len(patterns) != 1 {
		t.Fatalf("%v, %v", patterns, err)
	}
	warning := vm.KernelReport{Kind: vm.Warning, Title: "WARNING: CPU: 0 PID: 1 at drivers/net/tun.c:3843 noise+0x1d/0x30"}
	for _, tt := range []struct {
		name   string
		report vm.KernelReport
		known  known
		noise  bool
	}{
		{"of the driver", warning, nil, false},
		{"of the driver, known", warning, patterns, true},
		{"a panic, known", vm.KernelReport{Kind: vm.Panic, Title: warning.Title}, patterns, false},
		{"an oops, known", vm.KernelReport{Kind: vm.Oops, Title: warning.Title}, patterns, false},
		{"in its text", vm.KernelReport{Kind: vm.Bug, Title: "BUG: x", Text: "BUG: x\n" + warning.Title + "\n"}, patterns, true},
		{"another one", vm.KernelReport{Kind: vm.Warning, Title: "WARNING: CPU: 0 PID: 1 at drivers/net/tun.c:1 tun_net_xmit+0x1/0x2"}, patterns, false},
	} {
		r := &Run{known: tt.known}
		if why := r.Noise(tt.report); (why != "") != tt.noise || len(r.result.Noise) > 0 != tt.noise {
			t.Errorf("%s: %q, %v", tt.name, why, r.result.Noise)
		}
	}
	for bad, says := range map[string]string{"a\n(b\n": file + ":2:", "a|\n": "every report"} {
		write(bad)
		if _, err := readKnown(file); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", bad, err, says)
		}
	}
	if _, err := readKnown(filepath.Join(t.TempDir(), "absent")); err == nil || !strings.Contains(err.Error(), "KNOWN") {
		t.Errorf("no such file: %v", err)
	}
}
