package stage

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/ringproof/ringproof/inject/breakpoint"
	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/internal/contract"
)

// txq finds the state of the stage's txq, once: it needs no debug info. The core
// passes the txq to dev_hard_start_xmit, and netif_tx_wake_queue shows where in it the
// state is (net/core/dev.c).
func (s *Stage) txq() (state uint64, err error) {
	if s.state != 0 {
		return s.state, nil
	}
	wake, err := disasm.Disassemble("netif_tx_wake_queue")
	if err != nil {
		return 0, err
	}
	for _, p := range wake.Points {
		m := stopBit.FindStringSubmatch(p.Text)
		if m == nil {
			continue
		}
		offset, err := strconv.ParseUint(m[1], 0, 64)
		if err != nil {
			return 0, err
		}
		arguments, err := breakpoint.Arguments("dev_hard_start_xmit", func() error { return s.Fill(1) })
		if _, drained := s.Drain(1); err != nil || drained != nil {
			return 0, errors.Join(err, drained)
		}
		s.state = arguments[2] + offset
		return s.state, nil
	}
	return 0, errors.New("netif_tx_wake_queue does not show where a txq has its state")
}

// Watch returns what tells what the txq is like at a moment, in packets that are sent
// from now on. The stage must be empty. Nothing that an opponent may hold up with its
// locks is asked, so its opponent must not be one that changes the device; and what a
// worker has in hand is in no ring, so there must be none.
func (s *Stage) Watch() (look func(moving bool) *contract.Queue, err error) {
	state, err := s.txq()
	if err != nil {
		return nil, fmt.Errorf("watch the txq: %w", err)
	}
	began, dropped := s.account(), s.dropped()
	return func(moving bool) *contract.Queue {
		backlog, err := s.Held()
		if err != nil {
			return nil
		}
		bits, err := disasm.Byte(state)
		if err != nil {
			return nil
		}
		q := &contract.Queue{Ring: -1, Size: s.at.Ring, Backlog: backlog, Stopped: bits&1 != 0}
		if !moving {
			a := s.account().since(began)
			q.Ring = int(a.allocated()) - int(a.received) - int(s.dropped()-dropped) - backlog
		}
		return q
	}, nil
}

// dropped is how many packets were freed as dropped so far; what cannot be counted
// just now is not.
func (s *Stage) dropped() (n uint64) {
	freed, _ := s.ledger.Freed()
	for _, f := range freed {
		n += f.Count
	}
	return n
}
