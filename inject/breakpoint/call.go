package breakpoint

import (
	"errors"
	"fmt"
	"runtime"

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
	spec, err := loadCall()
	if err != nil {
		return arguments, err
	}
	if err := spec.Variables["thread"].Set(uint32(unix.Gettid())); err != nil {
		return arguments, err
	}
	var objects callObjects
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		return arguments, pauseError(err)
	}
	defer objects.Close()
	// On each CPU, and not of the thread: arm64 has no such breakpoints in the
	// kernel's text (arch/arm64/kernel/hw_breakpoint.c: hw_breakpoint_arch_parse).
	attr := Attr(f.Points[0])
	for cpu := range runtime.NumCPU() {
		event, err := openBreakpoint(&attr, cpu, objects.KeepArguments)
		if err != nil {
			return arguments, err
		}
		defer unix.Close(event)
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
