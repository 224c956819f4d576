package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"

	"github.com/hugelgupf/vmtest/qemu"
)

// launcher runs functions on one OS thread that lives as long as the process.
//
// QEMU asks the kernel for a SIGKILL when its parent dies (prctl(2),
// PR_SET_PDEATHSIG), and "parent" means the thread that forked it: were that
// thread to end, as the Go runtime's threads may, QEMU would be killed.
var launcher = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// launch starts QEMU such that it cannot outlive this process, however that
// ends. ctx's end kills QEMU.
func launch(ctx context.Context, o *qemu.Options) (vm *qemu.VM, err error) {
	bind(o)
	done := make(chan struct{})
	launcher() <- func() {
		defer close(done)
		vm, err = o.Start(ctx)
	}
	<-done
	return vm, err
}

// bind puts in front of QEMU what ties it to this process:
//   - setpriv asks for the signal at the parent's death, which execve(2) keeps;
//   - setsid keeps a ^C at the terminal from QEMU, so that it is ours to end it
//     and the guest's last words are not lost;
//   - the shell covers the death of this process before setpriv asked.
func bind(o *qemu.Options) {
	const alive = `test "$PPID" = "$0" && exec "$@"`
	o.QEMUArgs = append([]string{alive, fmt.Sprint(os.Getpid()), o.QEMUCommand}, o.QEMUArgs...)
	o.QEMUCommand = "setpriv --pdeathsig KILL -- setsid -- sh -c"
}

// tools are the programs that a VM needs, and the Debian packages that have
// them.
var tools = []struct{ command, pkg string }{
	{qemuCommand, qemuPackage},
	{"setpriv", "util-linux"},
	{"setsid", "util-linux"},
}

// MissingPackages lists the Debian packages that Start needs and that are not
// installed.
func MissingPackages() (missing []string) {
	for _, tool := range tools {
		if _, err := exec.LookPath(tool.command); err != nil && !slices.Contains(missing, tool.pkg) {
			missing = append(missing, tool.pkg)
		}
	}
	return missing
}

// findQEMU returns the path of QEMU for the guest's architecture.
func findQEMU() (string, error) {
	for _, tool := range tools {
		if _, err := exec.LookPath(tool.command); err != nil {
			return "", fmt.Errorf("%s is not installed, and no VM can run without it: %w\non Debian and Ubuntu: sudo apt-get install %s", tool.command, err, tool.pkg)
		}
	}
	return exec.LookPath(qemuCommand)
}
