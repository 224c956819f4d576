package bench

import (
	"os/exec"

	"github.com/ringproof/ringproof/internal/host/kernel"
)

// Programs are those that workloads run in the guest, as initramfs.Options.Files
// has them. One that this machine lacks is left out; its workloads say so.
func Programs() map[string]string {
	path, err := exec.LookPath("iperf3")
	if err != nil {
		return nil
	}
	return map[string]string{"/bin/iperf3": path}
}

// MissingPackages are the Debian packages with programs that this machine lacks.
func MissingPackages() []kernel.Package {
	if len(Programs()) > 0 {
		return nil
	}
	return []kernel.Package{{Name: "iperf3", Why: "is put into the VM, to measure TCP"}}
}
