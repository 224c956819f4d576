package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// consume is what a quiet free is called in contract.Books.Quiet, before "@".
const consume = "consume_skb"

// taps free the clones that packet sockets with ETH_P_ALL get of each packet
// (net/core/dev.c: dev_queue_xmit_nit). Those that a socket keeps have no dev.
var taps = []string{"packet_rcv", "packet_rcv_spkt", "tpacket_rcv"}

// MismatchError says that packets are nowhere, but not as many as were freed
// quietly.
type MismatchError struct {
	// Missing packets are neither received nor dropped nor queued; Excess is
	// how many more skbs were freed as delivered than packets were received.
	Missing, Excess uint64
	// By says who freed as delivered, "function count".
	By []string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s nowhere, but %s freed by %s than packets were received: %s", contract.Count(e.Missing, "packet is", "packets are"), contract.Count(e.Excess, "more skb was", "more skbs were"), consume, strings.Join(e.By, ", "))
}

// quiet is how many packets were freed as delivered that nobody received, by
// who did it. Received is what readers took, missing how many packets are nowhere;
// unseen bounds how many deliveries were not counted.
//
// Who frees quietly is only asked if packets are missing, and only believed if
// exactly so many are: that an skb was consumed does not say that it was a packet's
// last. A driver may send a copy of one that is shared, and consume the original.
// Else the error is a *MismatchError.
func quiet(consumed []Freed, readers []string, received uint64, missing int64, unseen uint64) (map[string]uint64, error) {
	var total uint64
	by := make(map[string]uint64)
	for _, f := range consumed {
		if !slices.Contains(taps, f.function()) {
			by[f.Function] += f.Count
			total += f.Count
		}
	}
	if len(readers) == 0 {
		received = 0 // what arrives is no longer the device's
	}
	if missing <= 0 || total <= received {
		return nil, nil
	}
	excess := total - received
	if uint64(missing) < excess || uint64(missing) > excess+unseen {
		var who []string
		for _, function := range slices.Sorted(maps.Keys(by)) {
			who = append(who, strings.TrimSpace(fmt.Sprintf("%s %d", function, by[function])))
		}
		return nil, &MismatchError{Missing: uint64(missing), Excess: excess, By: who}
	}
	if reader, ok := readerOf(by, readers, received); ok {
		by[reader] -= received
	} else {
		by = map[string]uint64{"": excess}
	}
	by[""] += uint64(missing) - excess
	found := make(map[string]uint64)
	for function, n := range by {
		if n == 0 {
			continue
		}
		key := consume
		if function != "" {
			key += "@" + function
		}
		found[key] = n
	}
	return found, nil
}

// readerOf finds out which function frees what was received: one that is known
// to, or, if the compiler or a later kernel gave it another name, the only one that
// has freed as much.
func readerOf(by map[string]uint64, readers []string, received uint64) (string, bool) {
	var may []string
	for function, n := range by {
		if n < received {
			continue
		}
		if slices.Contains(readers, Freed{Function: function}.function()) {
			return function, true
		}
		may = append(may, function)
	}
	if received > 0 && len(may) != 1 {
		return "", false
	}
	return may[0], true
}
