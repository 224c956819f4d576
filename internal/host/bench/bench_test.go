package bench

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// TestDirectoryOfSomethingElse: nothing is written where something else is.
func TestDirectoryOfSomethingElse(t *testing.T) {
	dir := t.TempDir()
	theirs := filepath.Join(dir, "bench.txt")
	if err := os.WriteFile(theirs, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := Claim(dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("%v", err)
	}
	ours := filepath.Join(dir, "new", "one")
	for range 2 {
		if err := Claim(ours); err != nil {
			t.Error(err)
		}
	}
}

// TestKernelsComparedBefore leave nothing that could be taken for the outcome.
func TestKernelsComparedBefore(t *testing.T) {
	r := steady()
	r.Config.Dir = filepath.Join(t.TempDir(), "bench")
	if err := Claim(r.Config.Dir); err != nil {
		t.Fatal(err)
	}
	if err := r.Write(); err != nil {
		t.Fatal(err)
	}
	other := steady()
	other.Config.Dir, other.Config.Kernels[1].Label, other.Variants[1].Label = r.Config.Dir, "other", "other"
	for i := range other.Boots[2:] {
		other.Boots[2+i].Variant = "other"
	}
	if err := other.Write(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"patched.bench": false, "patched/verdict.json": false, "other.bench": true, "other/verdict.json": true, "bench.txt": true} {
		if _, err := os.Stat(filepath.Join(r.Config.Dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}

// TestBootIsNotDoneAgain: what is on the disk is taken, unless it is of another boot, or
// failed, or is not whole.
func TestBootIsNotDoneAgain(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, []byte("one"), 0o666); err != nil {
		t.Fatal(err)
	}
	r := &Result{Config: Config{Image: image}}
	j := job{Variant{Kernel: Kernel{Label: "stock", Kernel: &kernel.Result{Image: image}}}, Time, 0}
	key, err := r.key(j, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := recall(dir, key); ok {
		t.Error("nothing was there")
	}
	good := &Outcome{Variant: "stock", Samples: []cost.Sample{{Workload: "x"}}}
	if err := remember(dir, key, good); err != nil {
		t.Fatal(err)
	}
	if o, ok := recall(dir, key); !ok || o.Samples[0].Workload != "x" {
		t.Errorf("%v, %v", o, ok)
	}
	other := j
	other.variant.Backpressure = true
	if k, _ := r.key(other, ""); k == key {
		t.Error("with the flag it is another boot")
	}
	if err := os.WriteFile(image, []byte("two"), 0o666); err != nil {
		t.Fatal(err)
	}
	if k, _ := r.key(j, ""); k == key {
		t.Error("of another kernel it is another boot")
	}
	if err := remember(dir, key, &Outcome{Failed: "the guest ended early"}); err != nil {
		t.Fatal(err)
	}
	if _, ok := recall(dir, key); ok {
		t.Error("one that failed is done again")
	}
	if err := os.WriteFile(filepath.Join(dir, outcomeFile), []byte(`{"Key": "`+key), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, ok := recall(dir, key); ok {
		t.Error("one that is cut off is done again")
	}
}

func TestSamplesAreRead(t *testing.T) {
	var got []cost.Sample
	o := &output{onSample: func(s cost.Sample) { got = append(got, s) }}
	text := "=== RUN   TestPath\n=== ATTR  TestPath ringproof.cost {\"Workload\":\"Path/x\",\"Values\":{\"instr/pkt\":3}}\n    a line\n=== ATTR  TestPath ringproof.cost {\n"
	for i := range text { // however it is cut
		o.Write([]byte(text[i : i+1]))
	}
	if len(got) != 1 || got[0].Values["instr/pkt"] != 3 {
		t.Errorf("%+v", got)
	}
	if o.err == nil || !strings.Contains(o.err.Error(), "cannot be read") {
		t.Errorf("a sample that is cut off: %v", o.err)
	}
	if !strings.Contains(o.text.String(), "a line") {
		t.Errorf("the rest: %q", o.text.String())
	}
}

// TestBootThatStrays: a limit that is hardly exceeded is tried in a second boot, and only
// there.
func TestBootThatStrays(t *testing.T) {
	for _, tt := range []struct {
		name    string
		patched float64
		boots   int
	}{{"hardly", 1022, 1}, {"by far", 1100, 0}, {"not", 1010, 0}} {
		r := measured(Instructions, "Path/x", "instr/pkt", []float64{1000, 1000}, []float64{tt.patched, tt.patched})
		r.Boots = slices.DeleteFunc(r.Boots, func(o Outcome) bool { return o.Variant == "patched" && o.Nth == 1 })
		if jobs := r.doubtful(); len(jobs) != tt.boots {
			t.Errorf("%s above the limit: %v", tt.name, jobs)
		}
	}
	r := measured(Instructions, "Path/x", "instr/pkt", []float64{1000, 1000}, []float64{1022, 1000})
	if jobs := r.doubtful(); len(jobs) != 0 {
		t.Errorf("two boots, and again %v", jobs)
	}
	if row := r.Rows()[0]; row.Outcome != contract.Undecided {
		t.Errorf("of two boots one exceeds the limit: %s", row.Outcome)
	}
}
