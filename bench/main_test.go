package bench

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// setting is what the host asks for.
var setting struct {
	// backpressure: devices are opened with IFF_BACKPRESSURE.
	backpressure bool
	// rounds is how often each workload is run.
	rounds int
	// instructions: the clock counts instructions, and there is one CPU.
	instructions bool
}

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(contract.GuestEnv) != "1" {
		fmt.Println("These workloads change network devices and run inside a VM: make bench runs them there.")
		// So that go test says "no tests to run", and not that all is well.
		if err := flag.Set("test.run", "^$"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	setting.backpressure = os.Getenv("BACKPRESSURE") == "1"
	setting.instructions = os.Getenv("RULER") == "instructions"
	setting.rounds, _ = strconv.Atoi(os.Getenv("ROUNDS"))
	setting.rounds = max(setting.rounds, 1)
	// Collected is what a workload leaves behind, when it has ended.
	debug.SetGCPercent(-1)
	if setting.instructions {
		runtime.GOMAXPROCS(4) // on one CPU: see call
		if err := seed(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	os.Exit(m.Run())
}

// seed makes the kernel's random number generator ready. Nothing random happens in the
// guest, so the first who asks it for a number would have it schedule itself round and
// round until it has enough (drivers/char/random.c: try_to_generate_entropy), which is
// ten times what a transfer costs.
func seed() error {
	random, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("seed the kernel's random number generator: %w", err)
	}
	defer random.Close()
	// include/uapi/linux/random.h: struct rand_pool_info
	var pool struct {
		bits, bytes int32
		buf         [32]byte
	}
	pool.bytes = int32(len(pool.buf))
	pool.bits = 8 * pool.bytes
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, random.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&pool))); errno != 0 {
		return fmt.Errorf("seed the kernel's random number generator: RNDADDENTROPY: %w", errno)
	}
	return nil
}

// sample reports what one round has given.
func sample(t *testing.T, s cost.Sample) {
	t.Helper()
	if !setting.instructions {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			t.Fatal(err)
		}
		s.Clock = time.Duration(now.Nano())
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Attr(cost.Attr, string(data))
}

// rounds reports a sample of each round, which measure fills, until one gives no values.
func rounds(t *testing.T, workload string, measure func(*cost.Sample) error) {
	t.Helper()
	for range setting.rounds {
		s := cost.Sample{Workload: workload, Values: make(map[string]float64)}
		good := ended(&s, measure(&s))
		sample(t, s)
		if !good {
			return
		}
	}
}

// ended notes how a round has ended, and says whether it has given values.
func ended(s *cost.Sample, err error) bool {
	if err == nil {
		return true
	}
	s.Values, s.Window = nil, nil
	if missing, ok := errors.AsType[*kernelfeature.MissingError](err); ok {
		s.Missing = missing.Error()
	} else {
		s.Failed = err.Error()
	}
	return false
}
