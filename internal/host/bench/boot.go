// Package bench measures what kernels cost: it boots them in turn, has the guest's
// workloads (package bench) run, and compares what they gave.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/kernel"
	"github.com/ringproof/ringproof/internal/host/profile"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// Ruler is what a cost is measured by.
type Ruler string

const (
	// Instructions that the guest executes, on one CPU.
	Instructions Ruler = "instructions"
	// Time that passes.
	Time Ruler = "time"
)

// Boot is one VM in which workloads run.
type Boot struct {
	Kernel *kernel.Result
	// Backpressure: devices are opened with IFF_BACKPRESSURE.
	Backpressure bool
	Ruler        Ruler
	// Plugin profiles what is measured by the ruler of instructions, if the kernel
	// has a vmlinux with symbols; nil if nothing is to be profiled. It changes no
	// other figure.
	Plugin *profile.Plugin
	// Workloads are those to run, as go test's -run has it; "" is all.
	Workloads string
	// All: the workloads in every combination of what they have, and for longer.
	All bool
	// Rounds of each workload.
	Rounds int
	Image  string // of the initramfs
	Accel  vm.Accel
	CPUs   int
	Dir    string
	// Deadline ends it; 0 is none.
	Deadline time.Duration
	// OnSample is called with each sample as it comes.
	OnSample func(cost.Sample)
	// OnUnprofiled is called with the reason if there is a Plugin and nothing can be
	// profiled; may be nil.
	OnUnprofiled func(why string)
	Progress     io.Writer
}

// Run boots the VM, and returns how it ended, and what ran it. The error says that it
// did not end as it should: samples that came before it are good all the same, unless
// it is a *WrongClockError.
func (b Boot) Run(ctx context.Context) (*vm.Result, vm.Choice, error) {
	image, err := kernel.Inspect(b.Kernel.Image)
	if err != nil {
		return nil, vm.Choice{}, err
	}
	if image.Arch != "amd64" {
		return nil, vm.Choice{}, fmt.Errorf("%s is for %s, and costs are measured on x86-64, whose instructions the profile knows", b.Kernel.Image, image.Arch)
	}
	argv := []string{initramfs.Program, "-test.v", "-test.timeout=0"}
	if b.Workloads != "" {
		argv = append(argv, "-test.run="+b.Workloads)
	} else {
		argv = append(argv, "-test.skip="+SampleWorkload)
	}
	flag := "BACKPRESSURE=0"
	if b.Backpressure {
		flag = "BACKPRESSURE=1"
	}
	workloads := "WORKLOADS="
	if b.All {
		workloads = "WORKLOADS=all"
	}
	said := &output{dir: b.Dir, onSample: b.OnSample}
	var plugin string
	if b.Plugin != nil && b.Ruler == Instructions {
		if said.kernel, plugin, err = b.profiled(); err != nil {
			if b.OnUnprofiled != nil {
				b.OnUnprofiled(err.Error())
			}
		}
	}
	guest, err := vm.Start(ctx, vm.Config{
		Kernel: b.Kernel.Image, Vmlinux: b.Kernel.Vmlinux, Initramfs: b.Image, CommandLine: image.CommandLine,
		Boot: contract.Boot{Argv: argv, Env: []string{
			flag, workloads, "RULER=" + string(b.Ruler), fmt.Sprintf("ROUNDS=%d", max(b.Rounds, 1)),
			// Go's runtime interrupts its threads, and collects garbage, by a
			// clock of its own: not while something is measured.
			"GODEBUG=asyncpreemptoff=1",
		}},
		Accel: b.Accel, CPUs: b.CPUs, Instructions: b.Ruler == Instructions, Plugin: plugin,
		Deadline: b.Deadline, Dir: b.Dir, Output: said, Progress: b.Progress,
	})
	if err != nil {
		return nil, vm.Choice{}, err
	}
	result, err := guest.Wait()
	if err == nil && (result.Ending != vm.Exited || result.Exit.Error != "" || result.Exit.Code > 1 || result.Exit.Signal != "") {
		err = fmt.Errorf("the guest ended early: %v\n%s", result, said.text.String())
	}
	if err = errors.Join(err, said.err, said.clock.wrong()); err == nil {
		err = profile.Clean(b.Dir)
	}
	if kept := os.WriteFile(filepath.Join(b.Dir, "output.log"), []byte(said.text.String()), 0o666); kept != nil {
		err = errors.Join(err, fmt.Errorf("keep what the workloads printed: %w", kept))
	}
	return result, guest.Accel(), err
}

// profiled readies the plugin for this boot, and returns its argument.
func (b Boot) profiled() (*profile.Kernel, string, error) {
	if b.Kernel.Vmlinux == "" {
		return nil, "", errors.New("there is no vmlinux beside the kernel")
	}
	k, err := profile.OpenKernel(b.Kernel.Vmlinux)
	if err != nil {
		return nil, "", err
	}
	plugin, err := b.Plugin.Prepare(b.Dir, k)
	if err != nil {
		return nil, "", err
	}
	return k, plugin, nil
}

// output finds the samples in what the test binary prints.
type output struct {
	dir      string
	kernel   *profile.Kernel // nil: nothing is profiled
	onSample func(cost.Sample)
	rest     string // of a line that has not ended
	text     strings.Builder
	clock    clock
	err      error
}

func (o *output) Write(p []byte) (int, error) {
	o.rest += string(p)
	for {
		line, rest, whole := strings.Cut(o.rest, "\n")
		if !whole {
			return len(p), nil
		}
		o.rest = rest
		o.line(line)
	}
}

// line takes "=== ATTR  TestPktgen/threads=1 ringproof.cost {...}".
func (o *output) line(line string) {
	attr, isAttr := strings.CutPrefix(line, "=== ATTR  ")
	words := strings.SplitN(attr, " ", 3)
	if !isAttr || len(words) != 3 || words[1] != cost.Attr {
		fmt.Fprintln(&o.text, line)
		return
	}
	var s cost.Sample
	if err := json.Unmarshal([]byte(words[2]), &s); err != nil {
		o.err = errors.Join(o.err, fmt.Errorf("a sample that cannot be read: %w: %s", err, line))
		return
	}
	if s.Clock > 0 {
		o.clock.tick(s.Clock, time.Now())
	}
	if s.Window != nil {
		if err := o.window(&s); err != nil {
			o.err = errors.Join(o.err, fmt.Errorf("%s: %w", s.Workload, err))
		}
	}
	if o.onSample != nil {
		o.onSample(s)
	}
}

// window adds to a sample the values of its window: of its profile, which counts
// exactly, if there is one, else of the guest's clock.
func (o *output) window(s *cost.Sample) error {
	w := s.Window
	if s.Values == nil {
		s.Values = make(map[string]float64)
	}
	switch {
	case o.kernel != nil:
		p, err := o.kernel.Take(o.dir, w.Number)
		if err != nil {
			return err
		}
		if err := p.Agrees(w.Instructions, w.IdleUnknown); err != nil {
			return err
		}
		if w.Where != "" {
			p = p.Only(w.Where)
		}
		_, of, _ := strings.Cut(w.Unit, "/")
		s.Values[w.Unit] = float64(p.Instructions-p.Idle()) / w.Per
		if w.Where == "" {
			s.Values["kernel-instr/"+of] = float64(p.Kernel()) / w.Per
		}
		s.Values["locked/"+of] = float64(p.Locked()) / w.Per
	case w.Where != "":
		s.Missing = fmt.Sprintf("without a profile nobody knows what the %s executes", w.Where)
	case !w.IdleUnknown:
		s.Values[w.Unit] = w.Instructions / w.Per
	case len(s.Values) == 0:
		s.Missing = "the kernel does not tell how long it was idle, so its clock does not tell what it executed, and there is no profile"
	}
	return nil
}
