package run

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/report"
	"github.com/ringproof/ringproof/internal/host/srcline"
	"github.com/ringproof/ringproof/internal/host/vm"
)

// Guest is one VM that runs tests.
type Guest struct {
	vm  *vm.VM
	dir string

	mu      sync.Mutex
	changed *sync.Cond           // of anything below
	streams map[string][]*Stream // by top-level test, those not taken yet
	loose   strings.Builder      // output of no test
	reports []vm.KernelReport    // of the kernel's, not claimed yet
	marked  map[string]int       // how often each test wrote its marks
	hello   contract.Hello
	foreign error     // VMLINUX is of another build
	mourned bool      // somebody has told of its death
	testing bool      // a test runs
	heard   time.Time // when its tests last said something
	late    bool      // its tests were ended by go test's -timeout
	ended   bool
	result  *vm.Result // once ended
	err     error      // once ended
}

// start boots a VM that runs the tests.
func start(ctx context.Context, cfg vm.Config, log io.Writer) (*Guest, error) {
	g := &Guest{dir: cfg.Dir, streams: map[string][]*Stream{}, marked: map[string]int{}}
	g.changed = sync.NewCond(&g.mu)
	cfg.OnHello = func(h contract.Hello) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.hello = h
		if cfg.Vmlinux != "" {
			g.foreign = srcline.SameBuild(cfg.Vmlinux, h.Notes)
		}
	}
	cfg.OnReport = func(r vm.KernelReport) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.reports = append(g.reports, r)
	}

	// The tests' output becomes events on the host, so that what a guest
	// printed before it died is known to the last byte.
	convert := exec.Command("go", "tool", "test2json", "-t")
	var complaint strings.Builder
	convert.Stderr = &complaint
	text, err := convert.StdinPipe()
	if err != nil {
		return nil, err
	}
	events, err := convert.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := convert.Start(); err != nil {
		return nil, fmt.Errorf("start go tool test2json: %w", err)
	}
	cfg.Output = text
	g.vm, err = vm.Start(ctx, cfg)
	if err != nil {
		text.Close()
		_ = convert.Wait()
		return nil, err
	}
	go g.listen()
	sorted := make(chan error, 1)
	go func() { sorted <- g.sort(events, log) }()
	go func() {
		result, err := g.vm.Wait()
		text.Close()
		if e := <-sorted; e != nil && err == nil {
			err = e
		}
		if e := convert.Wait(); e != nil && err == nil {
			err = fmt.Errorf("go tool test2json: %w: %s", e, strings.TrimSpace(complaint.String()))
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.result, g.err, g.ended = result, err, true
		g.changed.Broadcast()
	}()
	return g, nil
}

// Marked notes that the test writes marks to the kernel's log, so that Claim
// can wait for them.
func (g *Guest) Marked(test string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.marked[test]++
}

// consoleLag bounds the wait for the console's last words on a test that has
// ended: they have left the guest by then.
const consoleLag = 5 * time.Second

// Claim returns what the kernel reported while a test that has ended ran.
// Each report is returned once.
func (g *Guest) Claim(test string) ([]vm.KernelReport, error) {
	g.mu.Lock()
	nth := g.marked[test]
	g.mu.Unlock()
	if nth > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), consoleLag)
		defer cancel()
		if !g.vm.AwaitEnd(ctx, test, nth) && !g.hasEnded() {
			return nil, fmt.Errorf("the console has not shown this test's end after %v: what the kernel reported is not known", consoleLag)
		}
	}
	return g.claim(func(r vm.KernelReport) bool { return r.Test == test }), nil
}

// ClaimRest returns all that is left: what the kernel reported between tests.
func (g *Guest) ClaimRest() []vm.KernelReport {
	return g.claim(func(vm.KernelReport) bool { return true })
}

func (g *Guest) claim(whose func(vm.KernelReport) bool) (claimed []vm.KernelReport) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var rest []vm.KernelReport
	for _, r := range g.reports {
		if whose(r) {
			claimed = append(claimed, r)
		} else {
			rest = append(rest, r)
		}
	}
	g.reports = rest
	return claimed
}

// notOf says that VMLINUX is not of the kernel that the guest has booted.
func (g *Guest) notOf() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.foreign
}

func (g *Guest) hasEnded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended
}

// await waits until the guest has ended and all that it said is sorted.
func (g *Guest) await() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.ended {
		g.changed.Wait()
	}
}

// Death says why the guest ended before its tests did, with the evidence, and
// whose fault that is; "" if its test binary ran to the end. Valid once a Stream
// has run dry. Whoever asks tells.
func (g *Guest) Death() (why string, whose report.Kind) {
	g.await()
	g.mourned = true
	return g.died(), g.whose()
}

func (g *Guest) died() string {
	r := g.result
	if g.err == nil && r.Ending == vm.Exited && r.Exit.Signal == "" && r.Exit.Error == "" && r.Exit.Code < 2 {
		return ""
	}
	var b strings.Builder
	if r != nil {
		fmt.Fprintf(&b, "the guest ended early: %s\n", r)
		if r.Fatal != nil {
			b.WriteString(indent(r.Fatal.Text))
		}
		b.WriteString(indent(r.Stacks))
		b.WriteString(indent(r.QEMU))
	}
	if g.err != nil {
		fmt.Fprintf(&b, "%v\n", g.err)
	}
	b.WriteString(indent(g.loose.String()))
	fmt.Fprintf(&b, "console: %s/console.log", g.dir)
	return b.String()
}

// whose says whose fault it is that the guest has died.
func (g *Guest) whose() report.Kind {
	if g.err != nil || g.late {
		return report.SetUp
	}
	return report.Whose(g.result)
}

// silence is for how long the test program may say nothing while a test runs,
// before it is believed that the kernel does not let it: it says every five seconds
// what it does (vmtests/guest: watch). The guest's init is heard meanwhile, or the
// VM would have ended.
const silence = time.Minute

// listen ends the guest when its tests have been silent for too long.
func (g *Guest) listen() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range tick.C {
		g.mu.Lock()
		quiet, testing, ended := time.Since(g.heard), g.testing, g.ended
		g.mu.Unlock()
		switch {
		case ended:
			return
		case testing && quiet > silence:
			g.End(fmt.Sprintf("the test program has said nothing for %v, while the guest goes on", quiet.Round(time.Second)))
			return
		}
	}
}

// End ends the guest, in which something is overdue, after it was asked for the
// stacks of its CPUs.
func (g *Guest) End(why string) { g.vm.End(why) }

func indent(text string) string {
	if text = strings.TrimRight(text, "\n"); text == "" {
		return ""
	}
	return "    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"
}
