package bench

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSlowPatchIsSeen, or it is said why not.
func TestSlowPatchIsSeen(t *testing.T) {
	nothing := Planted{Name: "patched", Nothing: true}
	slow := Planted{Name: "patched", Ruler: Time, Workload: "Pktgen/x", Unit: "rx-pps"}
	slower := func() *Result {
		return measured(Time, "Pktgen/x", "rx-pps", times(1000, 0.01, 12), times(500, 0.01, 12))
	}
	for _, tt := range []struct {
		name string
		p    Planted
		r    *Result
		do   func(*Result)
		want Verdict
	}{
		{"seen", slow, slower(), nil, AsItShouldBe},
		{"not seen", slow, steady(), nil, NotSeen},
		{"not seen without KVM", slow, steady(), func(r *Result) { r.Boots[0].Accel = "tcg: asked for" }, NotKnown},
		{"nothing", nothing, steady(), nil, AsItShouldBe},
		{"nothing, but flagged", nothing, slower(), nil, NotSeen},
		{"nothing has run", nothing, steady(), func(r *Result) { r.Boots = nil }, NotKnown},
		{"a boot failed", nothing, steady(), func(r *Result) { r.Boots[3].Failed = "the guest ended early" }, NotKnown},
	} {
		if tt.do != nil {
			tt.do(tt.r)
		}
		if by, v := tt.p.Seen(tt.r); v != tt.want {
			t.Errorf("%s: %q by %q, want %q", tt.name, v, by, tt.want)
		}
	}
}

// TestPlanted: what is in patches/slow can be read, and bad headers are refused.
func TestPlanted(t *testing.T) {
	all, err := ReadPlanted("../../../patches/slow")
	if err != nil {
		t.Fatal(err)
	}
	nothing := 0
	for _, p := range all {
		if p.Nothing {
			nothing++
		}
	}
	if nothing != 1 || len(all) < 6 {
		t.Errorf("%d slow patches, %d of them that cost nothing", len(all), nothing)
	}
	for _, bad := range []string{
		"Subject: x\n\nDesign: opt-in-2\n---\n", "Subject: x\n\nCosts: nothing\n---\n",
		"Subject: x\n\nDesign: opt-in-2\nCosts: time Path/x instr/pkt\n---\n",
	} {
		file := filepath.Join(t.TempDir(), "bad.patch")
		if err := os.WriteFile(file, []byte("From 0 Mon\n"+bad), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := readPlanted(file); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
