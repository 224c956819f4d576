// Package child runs the programs that ringproof starts on the host. It makes sure
// that none of them outlives ringproof.
package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Run calls run, which starts cmd and waits for it. The kernel sends cmd the signal when
// this process dies, however it dies.
//
// For the kernel the parent is the thread that started the program (prctl(2),
// PR_SET_PDEATHSIG). Go ends a thread when a goroutine that is locked to it returns. So
// run has the thread of this goroutine for itself.
func Run(cmd *exec.Cmd, atDeath syscall.Signal, run func() error) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = atDeath
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return run()
}
