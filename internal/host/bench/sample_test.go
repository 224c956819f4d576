package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// sampled is a boot in which pktgen gave these, with the sample's settings and by the
// sample itself; as the harness sets it up it is twice as fast.
func sampled(likewise, sample []float64) *Result {
	k := Kernel{Label: "stock"}
	o := Outcome{Variant: k.Label, Ruler: Time}
	for i, pps := range likewise {
		o.Samples = append(o.Samples,
			cost.Sample{Workload: "Sample/a.sh/threads=1/by=harness", Values: map[string]float64{"tx-pps": 2 * pps}},
			cost.Sample{Workload: "Sample/a.sh/threads=1/by=likewise", Values: map[string]float64{"tx-pps": pps}})
		if i < len(sample) {
			o.Samples = append(o.Samples, cost.Sample{Workload: "Sample/a.sh/threads=1/by=sample", Values: map[string]float64{"tx-pps": sample[i]}})
		}
	}
	return &Result{Config: Config{Kernels: []Kernel{k}, Rulers: []Ruler{Time}}, Variants: []Variant{{Kernel: k}}, Boots: []Outcome{o}}
}

func TestSamplesAgree(t *testing.T) {
	text, err := sampled(times(1000, 0.1, 8), times(1001, 0.1, 8)).SampleText()
	if err != nil || !strings.Contains(text, "tx-pps") {
		t.Errorf("two that agree: %v\n%s", err, text)
	}
	for line := range strings.Lines(text) {
		if len(strings.TrimRight(line, "\n")) > width {
			t.Errorf("longer than %d columns: %q", width, line)
		}
	}
}

func TestSamplesDoNotAgree(t *testing.T) {
	one := func(change func(*cost.Sample)) *Result {
		r := sampled(times(1000, 0.1, 8), times(1000, 0.1, 8))
		s := &r.Boots[0].Samples[len(r.Boots[0].Samples)-1]
		s.Values = nil
		change(s)
		return r
	}
	cut := sampled(times(1000, 0.1, 8), times(1000, 0.1, 8))
	cut.Boots[0].Failed = "the guest ended early"
	for _, tt := range []struct {
		name string
		r    *Result
		says string
	}{
		{"slower", sampled(times(900, 0.05, 8), times(1000, 0.05, 8)), "tx-pps differs"},
		{"too few to tell", sampled(times(900, 0.05, 3), times(1000, 0.05, 3)), "too few"},
		{"no sample", sampled(times(1000, 0.1, 8), nil), "sample has not run"},
		{"no rounds", sampled(nil, nil), "nothing to compare"},
		{"missing", one(func(s *cost.Sample) { s.Missing = "/bin/bash is not in the image" }), "/bin/bash is not in the image"},
		{"failed once", one(func(s *cost.Sample) { s.Failed = "pktgen has written no result" }), "pktgen has written no result"},
		{"a boot that ended early", cut, "the guest ended early"},
	} {
		if text, err := tt.r.SampleText(); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want an error that says %q\n%s", tt.name, err, tt.says, text)
		}
	}
}

// TestSamplesOfAnUnknownKernel: the scripts of a kernel that somebody else has built are
// not taken from anywhere else, and a program that is not there is left out.
func TestSamplesOfAnUnknownKernel(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := os.WriteFile(filepath.Join(dir, "bash"), nil, 0o777); err != nil {
		t.Fatal(err)
	}
	files, err := SamplePrograms(t.Context(), &kernel.Result{Image: "bzImage"}, filepath.Join(dir, "samples"))
	if err != nil || len(files) != 1 || files["/bin/bash"] != filepath.Join(dir, "bash") {
		t.Errorf("%v, %v; want bash alone", files, err)
	}
}
