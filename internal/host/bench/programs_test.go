package bench

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAMachineWithoutIperf3(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if p, missing := Programs(), MissingPackages(); len(p) != 0 || len(missing) != 1 || missing[0].Name != "iperf3" {
		t.Errorf("without iperf3: programs %v, missing %v", p, missing)
	}
	path := filepath.Join(dir, "iperf3")
	if err := os.WriteFile(path, nil, 0o777); err != nil {
		t.Fatal(err)
	}
	if p, missing := Programs(), MissingPackages(); p["/bin/iperf3"] != path || len(missing) != 0 {
		t.Errorf("with iperf3: programs %v, missing %v", p, missing)
	}
}
