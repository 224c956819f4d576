package vm

import (
	"context"
	"fmt"
	"os"
	"runtime"
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

// launch starts QEMU. QEMU cannot outlive this process, however this process ends. The
// end of ctx kills QEMU.
func launch(ctx context.Context, q program, o *qemu.Options) (vm *qemu.VM, err error) {
	bind(q, o)
	done := make(chan struct{})
	launcher() <- func() {
		defer close(done)
		vm, err = o.Start(ctx)
	}
	<-done
	return vm, err
}

// bind has this program started in QEMU's place, which becomes QEMU once it is
// tied to this process: vmtest leaves no room for that, and execve(2) keeps it.
func bind(q program, o *qemu.Options) {
	o.QEMUArgs = append(append([]string{become, fmt.Sprint(os.Getpid())}, q.command()...), o.QEMUArgs...)
	o.QEMUCommand = "/proc/self/exe"
}
