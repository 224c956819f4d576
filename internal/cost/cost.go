// Package cost says what a workload has cost in the guest. Both sides speak it.
package cost

import "github.com/ringproof/ringproof/internal/contract"

// Attr is the test attribute that carries a Sample to the host, as JSON.
const Attr = "ringproof.cost"

// Sample is what one round of a workload has given.
type Sample struct {
	// Workload is its name as benchmarks have names, without "Benchmark":
	// "Pktgen/threads=2/consumer=read/path=qdisc".
	Workload string
	// Values are by unit: see Units.
	Values map[string]float64 `json:",omitempty"`
	// Window is what a profile of the round is checked against, with the ruler of
	// instructions.
	Window *Window `json:",omitempty"`
	// Books are the packets', of workloads that keep an account.
	Books *contract.Books `json:",omitempty"`
	// Missing says why it could not run: what the guest or the kernel lacks.
	Missing string `json:",omitempty"`
	// Failed says why it gave no values although it ran: a stall, books that do not
	// balance, a flow that never ended.
	Failed string `json:",omitempty"`
}

// Window is the part of a round that is profiled.
type Window struct {
	Number       int     // the nth of this boot, from 1 on
	Instructions float64 // that were executed in it, by the guest's clock
	Packets      uint64  // that were received in it
}
