// Package child runs the programs that ringproof starts on the host. It makes sure
// that none of them outlives ringproof.
package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Run calls run, which starts cmd and waits for it, such that the kernel sends
// cmd a signal when this process dies, however it does.
//
// The kernel takes for the parent the thread that started the program (prctl(2),
// PR_SET_PDEATHSIG), and Go ends a thread when a goroutine that is locked to it
// returns: so run has this goroutine's thread to itself.
func Run(cmd *exec.Cmd, atDeath syscall.Signal, run func() error) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = atDeath
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return run()
}
