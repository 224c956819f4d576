// Package cost says what a workload has cost in the guest. Both sides speak it.
package cost

import (
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// Attr is the test attribute that carries a Sample to the host, as JSON.
const Attr = "ringproof.cost"

// Either is in a Sample's Failed if the kernel is to blame for it: packets wait behind a
// txq although nothing stands before them.
const (
	Stalled = "is stopped and its ring is empty"
	Silent  = "nothing has arrived for"
)

// Sample is what one round of a workload has given.
type Sample struct {
	// Workload is its name as benchmarks have names, without "Benchmark":
	// "Pktgen/threads=2/consumer=read/path=qdisc".
	Workload string
	// Values are by unit: see Units.
	Values map[string]float64 `json:",omitempty"`
	// Window is what was executed, with the ruler of instructions.
	Window *Window `json:",omitempty"`
	// Books are the packets', of workloads that keep an account.
	Books *contract.Books `json:",omitempty"`
	// Clock is how late it was by the guest's clock when the round had ended, with the
	// ruler of time.
	Clock time.Duration `json:",omitempty"`
	// Missing says why it could not run: what the guest or the kernel lacks.
	Missing string `json:",omitempty"`
	// Failed says why it gave no values although it ran: a stall, books that do not
	// balance, a flow that never ended.
	Failed string `json:",omitempty"`
}

// Window is the part of a round whose instructions are counted. The host makes a
// value of it.
type Window struct {
	// Number: the nth of this boot, from 1 on. The host's profile knows it by that.
	Number int
	// Instructions are those that the guest's clock has counted, idle time taken off.
	Instructions float64
	// IdleUnknown: the kernel does not tell its idle time, so nothing was taken off.
	IdleUnknown bool `json:",omitempty"`
	// Where, if not "", is the only context whose instructions count, as a profile names
	// it: "producer". Without a profile there is no value then.
	Where string `json:",omitempty"`
	// Unit of the value, "instr/KiB", and how many KiB it is for.
	Unit string
	Per  float64
}

// Stall says whether the kernel stalled.
func (s *Sample) Stall() bool {
	return strings.Contains(s.Failed, Stalled) || strings.Contains(s.Failed, Silent)
}
