package breakpoint

import (
	"errors"
	"fmt"

	"github.com/ringproof/ringproof/inject/disasm"
	"golang.org/x/sys/unix"
)

// Arguments returns the first three arguments of a function of the kernel's, of the
// last call that the calling thread makes of it while do runs. The thread must be
// locked to its goroutine.
func Arguments(function string, do func() error) (_ [3]uint64, err error) {
	var arguments [3]uint64
	f, err := disasm.Disassemble(function)
	if err != nil {
		return arguments, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("watch the arguments of %s: %w", function, err)
		}
	}()
	var objects callObjects
	if err := loadCallObjects(&objects, nil); err != nil {
		return arguments, pauseError(err)
	}
	defer objects.Close()
	attr := Attr(f.Points[0])
	event, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return arguments, err
	}
	defer unix.Close(event)
	if err := unix.IoctlSetInt(event, unix.PERF_EVENT_IOC_SET_BPF, objects.KeepArguments.FD()); err != nil {
		return arguments, err
	}
	if err := do(); err != nil {
		return arguments, err
	}
	if err := objects.Arguments.Get(&arguments); err != nil {
		return arguments, err
	}
	if arguments == [3]uint64{} {
		return arguments, errors.New("it was not called")
	}
	return arguments, nil
}
