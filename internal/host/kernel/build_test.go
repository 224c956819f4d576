package kernel

import (
	"os"
	"testing"
)

// stock builds the default kernel, in the cache that all share: once there,
// it costs nothing.
func stock(t *testing.T) *Result {
	t.Helper()
	if testing.Short() {
		t.Skip("a cold build takes minutes")
	}
	r, err := Build(t.Context(), Spec{}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestStockKernelIsBootableAndComplete(t *testing.T) {
	r := stock(t)
	t.Logf("%+v", r)
	if err := Check(r.Image); err != nil {
		t.Error(err)
	}
	if len(r.Unknown) != 0 {
		t.Errorf("the default source lacks %v: base.config misspells them", r.Unknown)
	}
}
