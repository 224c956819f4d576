package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringproof/ringproof/initramfs"
	"github.com/ringproof/ringproof/internal/contract"
)

// image is what all VMs of these tests boot into.
var image = sync.OnceValues(func() (string, error) {
	path, _, err := initramfs.Build(context.Background(), initramfs.Options{Package: "./testdata/guest", Progress: os.Stderr})
	return path, err
})

// output is where a VM's program prints to; may be read while it does.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await waits until the program has printed text.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	for begin := time.Now(); !strings.Contains(o.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("the guest did not print %q within a minute", text)
		}
	}
}

// guest is a VM that runs one of the tests in testdata/guest.
type guest struct {
	*VM
	out  *output
	log  *output // Progress
	dir  string
	test string
}

var nextID atomic.Int64

// startGuest starts one. It skips without a kernel to boot.
func startGuest(ctx context.Context, t *testing.T, test string, change func(*Config)) *guest {
	t.Helper()
	kernel := needKernel(t)
	image, err := image()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{out: &output{}, log: &output{}, dir: t.TempDir(), test: test}
	cfg := Config{
		Kernel: kernel, Initramfs: image, Dir: g.dir,
		Boot:  contract.Boot{Argv: []string{initramfs.Program, "-test.v", "-test.run=^" + test + "$"}},
		Accel: Accel(os.Getenv("ACCEL")),
		// Tells this QEMU from others; the dot keeps it from init.
		Append:   []string{fmt.Sprintf("ringproof.vm=%d.", nextID.Add(1))},
		Output:   g.out,
		Progress: g.log,
		Deadline: 2 * time.Minute,
	}
	if change != nil {
		change(&cfg)
	}
	g.VM, err = Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			console, _ := os.ReadFile(filepath.Join(g.dir, "console.log"))
			t.Logf("progress:\n%s\noutput:\n%.500s\nconsole:\n%s", g.log, g.out.String(), console)
		}
	})
	return g
}

// end waits for the end, which has to be the one given.
func (g *guest) end(t *testing.T, want Ending) *Result {
	t.Helper()
	r, err := g.Wait()
	if err != nil {
		t.Errorf("%s: Wait: %v", g.test, err)
	}
	if r.Ending != want {
		t.Fatalf("%s ended with %q, want %q: %v\nstacks: %s", g.test, r.Ending, want, r, r.Stacks)
	}
	if want != Exited && r.Passed() {
		t.Errorf("%s: Passed after %v", g.test, r)
	}
	if strings.Contains(g.out.String(), "--- SKIP") {
		t.Skip(g.out.String())
	}
	return r
}

func TestProgramThatPasses(t *testing.T) {
	t.Parallel()
	var hello contract.Hello
	g := startGuest(t.Context(), t, "TestPass", func(c *Config) {
		c.CPUs = 3
		c.OnHello = func(h contract.Hello) { hello = h }
	})
	if !g.AwaitEnd(t.Context(), "TestPass", 1) {
		t.Error("the test's end mark was not seen")
	}
	r := g.end(t, Exited)
	if !r.Passed() {
		t.Errorf("not passed: %v, reports %v", r, r.Reports)
	}
	if !strings.Contains(g.out.String(), "a line from the guest\n--- PASS: TestPass") {
		t.Errorf("output %q", g.out)
	}
	if hello.CPUs != 3 || hello.Release == "" || hello.Preemption == "" {
		t.Errorf("hello %+v, want 3 CPUs", hello)
	}
	if g.AwaitEnd(t.Context(), "TestPass", 2) {
		t.Error("a second end mark was seen")
	}
	t.Logf("booted in %v, all in %v, on %s", r.Boot, r.Total, r.Machine)
}

func TestProgramThatFails(t *testing.T) {
	for test, want := range map[string]contract.Exit{
		"TestFail":       {Code: 1},
		"TestExitStatus": {Code: 3},
		"TestSignal":     {Signal: "SIGKILL"},
		"TestOrphan":     {},
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			r := startGuest(t.Context(), t, test, nil).end(t, Exited)
			if *r.Exit != want {
				t.Errorf("exit %+v, want %+v", *r.Exit, want)
			}
			if r.Passed() != (want == contract.Exit{}) {
				t.Errorf("Passed = %v", r.Passed())
			}
		})
	}
}

func TestProgramThatIsMissing(t *testing.T) {
	t.Parallel()
	r := startGuest(t.Context(), t, "", func(c *Config) { c.Boot.Argv = []string{"/bin/nothing"} }).end(t, Exited)
	if !strings.Contains(r.Exit.Error, "no such file") || r.Passed() {
		t.Errorf("exit %+v, passed %v", *r.Exit, r.Passed())
	}
}

func TestFloodOfOutputArrivesWhole(t *testing.T) {
	t.Parallel()
	g := startGuest(t.Context(), t, "TestFlood", nil)
	g.end(t, Exited)
	lines := strings.SplitAfter(g.out.String(), "\n")
	var numbered int
	for _, line := range lines {
		if strings.HasSuffix(line, "xxx\n") && len(line) == 80 {
			numbered++
		}
	}
	if numbered != 100_000 {
		t.Errorf("%d lines of 100000 arrived", numbered)
	}
	if !strings.Contains(g.out.String(), "\n"+strings.Repeat("y", 300<<10)+"\n\x00\xff\x1b\r\n") {
		t.Error("the line of 300 KiB, or what is not text, arrived otherwise")
	}
}

func TestFloodOfTheConsole(t *testing.T) {
	t.Parallel()
	g := startGuest(t.Context(), t, "TestFloodConsole", nil)
	if !g.AwaitEnd(t.Context(), "TestFloodConsole", 1) {
		t.Error("the test's end mark was not seen")
	}
	r := g.end(t, Exited)
	if !r.Passed() {
		t.Errorf("%v, reports %v", r, r.Reports)
	}
	console, err := os.ReadFile(filepath.Join(g.dir, "console.log"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(console, []byte("flood ")); n != 5000 {
		t.Errorf("%d lines of 5000 in console.log", n)
	}
}

// MODULES are those of KERNEL.
func TestModulesAreLoaded(t *testing.T) {
	modules := os.Getenv("MODULES")
	if modules == "" {
		t.Skip("needs a kernel with its drivers as modules: set KERNEL and MODULES")
	}
	t.Parallel()
	image, _, err := initramfs.Build(t.Context(), initramfs.Options{Package: "./testdata/guest", Modules: modules})
	if err != nil {
		t.Fatal(err)
	}
	var hello contract.Hello
	g := startGuest(t.Context(), t, "TestTUN", func(c *Config) {
		c.Initramfs = image
		c.OnHello = func(h contract.Hello) { hello = h }
	})
	if r := g.end(t, Exited); !r.Passed() {
		t.Errorf("%v", r)
	}
	if len(hello.ModuleErrors) != 0 {
		t.Errorf("modules that did not load: %v", hello.ModuleErrors)
	}
}

func TestTwoAtOnce(t *testing.T) {
	one := startGuest(t.Context(), t, "TestPass", nil)
	other := startGuest(t.Context(), t, "TestFail", nil)
	if r := one.end(t, Exited); !r.Passed() {
		t.Errorf("TestPass: %v", r)
	}
	if r := other.end(t, Exited); r.Exit.Code != 1 {
		t.Errorf("TestFail: %v", r)
	}
}
