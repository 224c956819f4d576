// Package contract has the types that the host and the guest share: the promises of
// a TX-queue backpressure patch, what each contract expects of them, the verdict of a
// check, and the messages that carry all of this from the guest to the host.
//
// It imports neither side.
package contract

import (
	"fmt"
	"strings"
)

// Promise is one of the statements that a run proves or refutes.
type Promise string

const (
	// NoTailDrop: with a qdisc attached a full ring stops the queue, and
	// the driver drops nothing for want of room.
	NoTailDrop Promise = "no-tail-drop"
	// NoqueueDrops: with noqueue a full ring drops, as it always did, each
	// drop is counted, and the queue is never stopped.
	NoqueueDrops Promise = "noqueue-drops"
	// NoStall: no queue stays stopped once its consumer has drained it.
	NoStall Promise = "no-stall"
	// RequeueIntact: a packet that the driver refused, and that is queued
	// again, is not altered by that.
	RequeueIntact Promise = "requeue-intact"
	// OptInFlag: whether a device stops its queues is what IFF_BACKPRESSURE
	// says, which is reported alike wherever it can be read, and changes when
	// Documentation/networking/tuntap.rst, section 3.4, says so, and at no
	// other time. A kernel that does not offer the flag ignores it.
	OptInFlag Promise = "opt-in-flag"
)

// Cost is the promise that a patch costs no more than its limits allow. The checks
// do not decide it: make bench does (docs/cost.md).
const Cost Promise = "cost"

// Promises lists every promise that the checks decide, in the order in which reports
// show them.
func Promises() []Promise {
	return []Promise{NoTailDrop, NoqueueDrops, NoStall, RequeueIntact, OptInFlag}
}

// Contract names a set of expectations, one for each promise.
type Contract string

const (
	// Auto is OptIn when the driver offers IFF_BACKPRESSURE, else Lossless.
	Auto Contract = "auto"
	// Stock is the unpatched kernel: a full ring drops, qdisc or not.
	// Seeing those drops is what proves that the instruments can.
	Stock Contract = "stock"
	// Lossless allows no FULL_RING drop at all under a qdisc.
	Lossless Contract = "lossless"
	// RareDrop allows none with one transmit at a time on a txq, and with P
	// that overlap at most P-1 for each time that the queue was stopped.
	RareDrop Contract = "rare-drop"
	// OptIn is Stock for a device opened without IFF_BACKPRESSURE and
	// RareDrop for one opened with it.
	OptIn Contract = "opt-in"
)

// Contracts lists the contracts that Parse knows.
func Contracts() []Contract {
	return []Contract{Auto, Stock, Lossless, RareDrop, OptIn}
}

// Parse returns the contract of that name; "" is Auto.
func Parse(name string) (Contract, error) {
	if name == "" {
		return Auto, nil
	}
	var known []string
	for _, c := range Contracts() {
		if string(c) == name {
			return c, nil
		}
		known = append(known, string(c))
	}
	return "", fmt.Errorf("unknown contract %q: CONTRACT must be one of %s", name, strings.Join(known, ", "))
}

// Resolve replaces Auto by what the driver offers. backpressureFlag says
// whether TUNGETFEATURES has IFF_BACKPRESSURE.
func (c Contract) Resolve(backpressureFlag bool) Contract {
	if c != Auto {
		return c
	}
	if backpressureFlag {
		return OptIn
	}
	return Lossless
}

// Of is the contract that OptIn is for a device, which was opened with
// IFF_BACKPRESSURE or without; any other is the same for all devices.
func (c Contract) Of(backpressure bool) Contract {
	switch {
	case c != OptIn:
		return c
	case backpressure:
		return RareDrop
	}
	return Stock
}

// Outcome is what a check found out about a promise.
type Outcome string

const (
	// Kept: the check ran, and what it saw is what the contract expects.
	Kept Outcome = "kept"
	// Broken: the check ran and saw the contract broken.
	Broken Outcome = "broken"
	// Undecided: the check ran, but what it saw decides nothing, for example
	// because its books do not balance. Never counted as kept.
	Undecided Outcome = "undecided"
	// NotRun: the check could not run, for want of something that Why names.
	NotRun Outcome = "not run"
)

// Outweighs says whether the outcome, and not other, is that of both together. Any
// outweighs none, which is "".
func (o Outcome) Outweighs(other Outcome) bool { return o.weight() > other.weight() }

func (o Outcome) weight() int {
	switch o {
	case "":
		return 0
	case NotRun:
		return 1
	case Kept:
		return 2
	case Broken:
		return 4
	}
	return 3 // Undecided, and what a later version says
}

// Verdict is what one test found out about one promise.
type Verdict struct {
	// Test is the name of the test that decided, as go test prints it.
	Test    string
	Promise Promise
	// Contract is the one that was applied; never Auto.
	Contract Contract
	Outcome  Outcome
	// Why is one line: the figures that decide, or what was missing.
	Why string
	// Books are the packet counts behind Why; nil if the check counts none.
	Books *Books `json:",omitempty"`
	// Evidence is what else there is to see, such as the stacks of all CPUs. The
	// host adds it: it is too long for an attribute.
	Evidence string `json:",omitempty"`
	// Nth is the place of Test among all that the run came by, those of other shards
	// included, from 1 on. The host adds it.
	Nth int `json:",omitempty"`
}
