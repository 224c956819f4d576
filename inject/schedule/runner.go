package schedule

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/cpu"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/memory"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// Which CPU is whose. The controller is the thread that calls Run.
const (
	controllerCPU = iota
	victimCPU
	operatorCPU
)

// Runner runs schedules on one stage after the other.
type Runner struct {
	driver   *driver.Driver
	pauser   *breakpoint.Pauser
	trap     *breakpoint.Trap
	victim   *cpu.Thread
	second   *breakpoint.Trap // the controller's, for pairs
	operator *cpu.Thread      // for opponents that may have to wait
	waiting  *breakpoint.Trap // the operator's, which holds nobody up but tells when it waits
	starter  *cpu.Thread      // starts a worker, and sleeps until it is done
	stage    *stage.Stage
	// For stores that are delayed; nil until there is one.
	recorder *breakpoint.Recorder // the victim's
	memory   *memory.Memory
	touches  *breakpoint.Touches // the operator's; nil unless they are counted
	alone    time.Duration       // that a second side takes at most if no first is held up
	// Begins is called with the id of each schedule or pair that is about to be
	// run; nil is nobody.
	Begins func(id string)
	// Watch has results say what the txq is like at each moment of their time
	// lines, where that can be told (see stage.Stage.Watch). It takes a
	// millisecond or two for each. Unwatched is why it could not be told; nil if it
	// could.
	Watch     bool
	Unwatched error
	// workerCPU is where a worker waits while the producer is held up.
	workerCPU int
	// waits are opponents that are believed not to wait, and did.
	waits map[waiter]bool
}

// waiter is an opponent of a CPU that is held up at an instruction.
type waiter struct {
	opponent string
	at       disasm.Point
}

// NewRunner starts the threads, on CPUs of their own, for schedules on devices of
// that driver.
func NewRunner(drv *driver.Driver) (_ *Runner, err error) {
	r := &Runner{driver: drv, waits: make(map[waiter]bool)}
	if runtime.NumCPU() <= operatorCPU {
		return nil, &kernelfeature.MissingError{
			Option: "a third CPU (CPUS=3)", What: "CPU each for a controller, the one that is held up, and one that may have to wait for it",
			Err: fmt.Errorf("there are %d", runtime.NumCPU()),
		}
	}
	// One that spins while it is held up would keep the operator from its CPU.
	r.workerCPU = min(operatorCPU+1, runtime.NumCPU()-1)
	if r.pauser, err = breakpoint.NewPauser(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.trap, err = r.pauser.Trap(victimCPU); err != nil {
		return nil, err
	}
	if r.second, err = r.pauser.Trap(controllerCPU); err != nil {
		return nil, err
	}
	if r.waiting, err = r.pauser.Trap(operatorCPU); err != nil {
		return nil, err
	}
	if err = errors.Join(r.second.WatchLocks(), r.waiting.WatchLocks()); err != nil {
		return nil, err
	}
	if err = cpu.KeepOff(victimCPU, operatorCPU); err != nil {
		return nil, err
	}
	if r.victim, err = cpu.Start(victimCPU); err != nil {
		return nil, err
	}
	if r.operator, err = cpu.Start(operatorCPU); err != nil {
		return nil, err
	}
	if r.starter, err = cpu.Start(operatorCPU); err != nil {
		return nil, err
	}
	return r, nil
}

// Close ends the threads and removes the device, as far as there are any.
func (r *Runner) Close() error {
	var errs []error
	for _, trap := range []*breakpoint.Trap{r.trap, r.second, r.waiting} {
		if trap != nil {
			errs = append(errs, trap.Close())
		}
	}
	if r.recorder != nil {
		errs = append(errs, r.recorder.Close())
	}
	if r.memory != nil {
		errs = append(errs, r.memory.Close(), unix.Munlockall())
	}
	for _, thread := range []*cpu.Thread{r.victim, r.operator, r.starter} {
		if thread != nil {
			thread.Stop()
		}
	}
	return errors.Join(append(errs, cpu.KeepOff(), r.closeStage(), r.pauser.Close())...)
}

func (r *Runner) closeStage() error {
	if r.stage == nil {
		return nil
	}
	s := r.stage
	r.stage = nil
	return s.Close()
}

// on makes sure that there is the stage of the setting.
func (r *Runner) on(want stage.Setting) error {
	if r.stage != nil && r.stage.For(want) {
		return nil
	}
	if err := r.closeStage(); err != nil {
		return err
	}
	s, err := stage.New(r.driver, want)
	if err != nil {
		return err
	}
	r.stage = s
	return s.Park(r.workerCPU)
}

// Pin makes the calling goroutine the controller, for as long as it lives: Run
// must be called from it.
func (r *Runner) Pin() error {
	runtime.LockOSThread()
	return cpu.Pin(controllerCPU)
}
