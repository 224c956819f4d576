// Package guest is what the tests of package vm run inside the VM. Most of it
// kills the guest, so it lies in testdata, where "./..." does not find it, and
// refuses to run elsewhere.
package guest

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/ringproof/ringproof/internal/contract"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	cmdline, _ := os.ReadFile("/proc/cmdline")
	if _, err := contract.ParseBoot(string(cmdline), os.ReadFile); err != nil || os.Getppid() != 1 {
		fmt.Fprintln(os.Stderr, "these tests kill the kernel: they run only in a VM of ringproof's")
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// mark does what every guest test of the project does.
func mark(t *testing.T) {
	write(t, "/dev/kmsg", contract.MarkBegin(t.Name()))
	t.Cleanup(func() { write(t, "/dev/kmsg", contract.MarkEnd(t.Name())) })
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

func TestPass(t *testing.T) { mark(t); fmt.Println("a line from the guest") }

func TestFail(t *testing.T) { t.Error("as asked") }

// TestTUN needs the driver, built in or loaded.
func TestTUN(t *testing.T) {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestExitStatus(t *testing.T) { os.Exit(3) }

func TestSignal(t *testing.T) { syscall.Kill(os.Getpid(), syscall.SIGKILL) }

func TestSleep(t *testing.T) {
	mark(t)
	fmt.Println("sleeping")
	time.Sleep(time.Hour)
}

// TestOrphan leaves a process behind that holds stdout open.
func TestOrphan(t *testing.T) {
	_, err := os.StartProcess("/proc/self/exe", []string{"guest.test", "-test.run=TestSleep"},
		&os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFlood prints 8 MB in lines of 79, the 64 KiB limit of a Scanner several
// times over in one line, and what is not text.
func TestFlood(t *testing.T) {
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	for i := range 100_000 {
		fmt.Fprintf(w, "%09d %s\n", i, strings.Repeat("x", 69))
	}
	w.Write(append(bytes.Repeat([]byte("y"), 300<<10), '\n'))
	w.Write([]byte("\x00\xff\x1b\r\n"))
}

// TestFloodConsole logs more than a serial line likes.
func TestFloodConsole(t *testing.T) {
	mark(t)
	for i := range 5_000 {
		write(t, "/dev/kmsg", fmt.Sprintf("<3>flood %d %s\n", i, strings.Repeat("z", 60)))
	}
}

func TestPanic(t *testing.T) {
	mark(t)
	fmt.Println("said before the panic")
	// init relays it, and its CPU may wait for the host meanwhile. What it has not
	// relayed ends with the kernel.
	time.Sleep(time.Second)
	write(t, "/proc/sysrq-trigger", "c")
}

// TestReboot resets the machine without a panic.
func TestReboot(t *testing.T) { write(t, "/proc/sysrq-trigger", "b") }

func TestOutOfMemory(t *testing.T) { mark(t); eat() }

func TestPanicOnOOM(t *testing.T) {
	mark(t)
	write(t, "/proc/sys/vm/panic_on_oom", "2")
	eat()
}

func eat() {
	var all [][]byte
	for {
		block := make([]byte, 16<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		all = append(all, block)
		runtime.KeepAlive(all)
	}
}

// crash asks the kernel's own crash test driver.
func crash(t *testing.T, how string) {
	t.Helper()
	if _, err := os.Stat(provoke); err != nil {
		t.Skip("needs CONFIG_LKDTM")
	}
	awaitClock(t)
	write(t, provoke, how)
}

// awaitClock returns when the kernel has measured the time-stamp counter, a second or
// two after the boot: to change to that clock it stops all CPUs (arch/x86/kernel/tsc.c:
// tsc_refine_calibration_work), which one that is stuck by then would keep it from, and
// then nobody complains.
func awaitClock(t *testing.T) {
	t.Helper()
	const current = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(100 * time.Millisecond) {
		if name, err := os.ReadFile(current); err != nil || strings.TrimSpace(string(name)) != "tsc-early" {
			return
		}
	}
}

const provoke = "/sys/kernel/debug/provoke-crash/DIRECT"

func TestWarning(t *testing.T) { mark(t); crash(t, "WARNING_MESSAGE") }

func TestRefcount(t *testing.T) { mark(t); crash(t, "REFCOUNT_INC_OVERFLOW") }

func TestOops(t *testing.T) { mark(t); crash(t, "ACCESS_NULL") }

func TestBUG(t *testing.T) { mark(t); crash(t, "BUG") }

// TestSoftLockup spins in the kernel on one CPU until the watchdog complains;
// nobody gets out of this.
func TestSoftLockup(t *testing.T) {
	mark(t)
	write(t, "/proc/sys/kernel/watchdog_thresh", "2")
	crash(t, "SOFTLOCKUP")
}

// TestRCUStall does the same, but RCU is the first to complain.
func TestRCUStall(t *testing.T) {
	mark(t)
	write(t, "/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout", "3")
	crash(t, "SOFTLOCKUP")
}

// TestHungTask sleeps in the kernel for ever.
func TestHungTask(t *testing.T) {
	mark(t)
	write(t, "/proc/sys/kernel/hung_task_timeout_secs", "2")
	crash(t, "HUNG_TASK")
}

// TestInterruptsOff spins with interrupts off on every CPU. They go at once: as
// soon as one is gone, the Go runtime waits for it.
func TestInterruptsOff(t *testing.T) {
	mark(t)
	if _, err := os.Stat(provoke); err != nil {
		t.Skip("needs CONFIG_LKDTM")
	}
	fmt.Println("interrupts go off")
	debug.SetGCPercent(-1)
	how := []byte("HARDLOCKUP")
	var ready atomic.Int32
	cpus := runtime.NumCPU()
	runtime.GOMAXPROCS(cpus + 1)
	var all sync.WaitGroup
	for cpu := range cpus {
		all.Go(func() {
			runtime.LockOSThread()
			var set unix.CPUSet
			set.Set(cpu)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				t.Error(err)
			}
			// Each its own: writers to one file take turns (fs/file.c:
			// fdget_pos).
			fd, err := unix.Open(provoke, unix.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
			}
			ready.Add(1)
			for int(ready.Load()) < cpus {
			}
			syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&how[0])), uintptr(len(how)))
		})
	}
	all.Wait()
}
