package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/cache"
)

// without makes the kernel leave out an initcall: to it, the driver is then
// not compiled in.
func without(initcalls ...string) func(*Config) {
	return func(c *Config) {
		c.Append = append(c.Append, "initcall_blacklist="+strings.Join(initcalls, ","))
	}
}

func TestKernelWithoutVirtioMMIO(t *testing.T) {
	needKernel(t)
	if _, err := image(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(cache.Env, t.TempDir())
	change := func(c *Config) {
		c.Accel = TCG
		c.Append = nil // what is remembered goes by it
		without("virtio_mmio_init")(c)
	}
	first := startGuest(t.Context(), t, "TestPass", change)
	r := first.end(t, Exited)
	if !r.Passed() || r.Machine != Q35 {
		t.Errorf("%v on %s, want a pass on q35", r, r.Machine)
	}
	if !strings.Contains(first.log.String(), "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES") || !strings.Contains(first.log.String(), "trying q35") {
		t.Errorf("progress does not say why: %s", first.log)
	}
	if console, err := os.ReadFile(filepath.Join(first.dir, "console.log")); err != nil || strings.Contains(string(console), "\x1b") {
		t.Errorf("console.log would reset a terminal: %v, %q", err, console)
	}
	again := startGuest(t.Context(), t, "TestPass", change)
	if r := again.end(t, Exited); !r.Passed() || strings.Contains(again.log.String(), "trying") {
		t.Errorf("q35 was not remembered: %v\n%s", r, again.log)
	}
}

func TestKernelWithoutVirtioConsole(t *testing.T) {
	t.Parallel()
	r := startGuest(t.Context(), t, "TestPass", without("virtio_console_init")).end(t, NotBooted)
	if !strings.Contains(r.Why, "CONFIG_VIRTIO_CONSOLE") {
		t.Errorf("why: %s", r.Why)
	}
}

func TestKernelWithout9P(t *testing.T) {
	t.Parallel()
	g := startGuest(t.Context(), t, "TestPass", without("init_p9", "p9_virtio_init", "init_v9fs"))
	if r := g.end(t, Exited); !r.Passed() {
		t.Errorf("%v", r)
	}
}

// TestKernelWithoutSerialConsole: said after the boot, and not by each test.
func TestKernelWithoutSerialConsole(t *testing.T) {
	t.Parallel()
	g := startGuest(t.Context(), t, "TestPass", func(c *Config) {
		c.Append = append(c.Append, "8250.nr_uarts=0")
		c.OnHello = func(contract.Hello) { t.Error("a guest that cannot be used is told of") }
	})
	if r := g.end(t, NotBooted); !strings.Contains(r.Why, "CONFIG_SERIAL_8250_CONSOLE") || r.Hello != nil {
		t.Errorf("why: %s, hello %+v", r.Why, r.Hello)
	}
}

// TestCPUsThatAreMissing: q35 is tried if that may help.
func TestCPUsThatAreMissing(t *testing.T) {
	const smp = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1"
	for _, tt := range []struct {
		hello  contract.Hello
		cpus   int
		append string
		want   bool
	}{
		{contract.Hello{CPUs: 1, Version: smp}, 4, "", true},
		{contract.Hello{CPUs: 4, Version: smp}, 4, "", false},
		{contract.Hello{CPUs: 2, Version: smp}, 4, "", false}, // CONFIG_NR_CPUS
		{contract.Hello{CPUs: 1, Version: smp}, 1, "", false},
		{contract.Hello{CPUs: 1, Version: "#1 PREEMPT"}, 4, "", false},
		{contract.Hello{CPUs: 1, Version: smp}, 4, "maxcpus=1", false},
		{contract.Hello{CPUs: 1, Version: smp}, 4, "nr_cpus=1", false},
		{contract.Hello{CPUs: 1, Version: smp}, 4, "nosmp", false},
	} {
		c := Config{CPUs: tt.cpus, Append: strings.Fields(tt.append)}
		if got := c.missesCPUs(&tt.hello); got != tt.want {
			t.Errorf("%d of %d CPUs of %q with %q: %v", tt.hello.CPUs, tt.cpus, tt.hello.Version, tt.append, got)
		}
	}
}

func TestKernelThatPanicsAtBoot(t *testing.T) {
	t.Parallel()
	var told []KernelReport
	r := startGuest(t.Context(), t, "TestPass", func(c *Config) {
		c.Append = append(c.Append, "rdinit=/nothing")
		c.OnReport = func(r KernelReport) { told = append(told, r) }
	}).end(t, NotBooted)
	if r.Machine != Q35 || r.Fatal == nil || !strings.HasPrefix(r.Why, "Kernel panic - not syncing") {
		t.Errorf("why: %s, fatal %+v", r.Why, r.Fatal)
	}
	if !reflect.DeepEqual(told, r.Reports) {
		t.Errorf("told %+v, want those of the last boot, %+v", told, r.Reports)
	}
}

func TestKernelThatPrintsNothing(t *testing.T) {
	t.Parallel()
	// Zeros are a boot sector that is executed, and does nothing for ever.
	kernel := filepath.Join(t.TempDir(), "kernel")
	image, err := os.ReadFile(needKernel(t))
	if err != nil {
		t.Fatal(err)
	}
	// The setup header stays; the kernel proper becomes "jmp .".
	for i := 16 << 10; i < len(image)-1; i += 2 {
		image[i], image[i+1] = 0xeb, 0xfe
	}
	if err := os.WriteFile(kernel, image, 0o644); err != nil {
		t.Fatal(err)
	}
	r := startGuest(t.Context(), t, "TestPass", func(c *Config) {
		c.Kernel, c.Accel, c.BootTime = kernel, TCG, 4*time.Second
	}).end(t, NotBooted)
	for _, want := range []string{"4s", "CONFIG_SERIAL_8250_CONSOLE"} {
		if !strings.Contains(r.Why, want) {
			t.Errorf("why does not say %s: %s", want, r.Why)
		}
	}
}

func TestCommandReproducesTheVM(t *testing.T) {
	t.Parallel()
	g := startGuest(t.Context(), t, "TestPass", nil)
	g.end(t, Exited)
	out, err := exec.CommandContext(t.Context(), "sh", "-c", g.Command()+" </dev/null").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "a line from the guest") {
		t.Errorf("%v: %s\n%s", err, g.Command(), out)
	}
	script, err := os.ReadFile(filepath.Join(g.dir, "command.sh"))
	if err != nil || !strings.Contains(string(script), g.Command()) {
		t.Errorf("command.sh: %v: %s", err, script)
	}
}

func TestQuote(t *testing.T) {
	for _, word := range []string{"plain", "a b", "it's", "", "$HOME", "a\nb", `\`, "-append"} {
		out, err := exec.Command("sh", "-c", "printf %s "+Quote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("Quote(%q) = %s, which is %q", word, Quote(word), out)
		}
	}
}

// TestClockThatRunsTooFast: nothing is heard of such a guest.
func TestClockThatRunsTooFast(t *testing.T) {
	t.Parallel()
	g := startGuest(t.Context(), t, "TestPass", func(c *Config) {
		c.Accel = TCG
		c.Append = append(c.Append, "tsc_early_khz=100000", "tsc=reliable")
		c.OnHello = func(contract.Hello) { t.Error("it has said hello") }
	})
	r := g.end(t, WrongClock)
	if !strings.Contains(r.Why, "clock") || r.Hello != nil || r.Exit != nil || g.out.String() != "" {
		t.Errorf("%v, %+v, %q", r, r, g.out)
	}
	if n := strings.Count(g.log.String(), "booting it again"); n != luckless-1 {
		t.Errorf("booted again %d times: %s", n, g.log)
	}
}
