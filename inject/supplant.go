package inject

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// standBy opens a second queue and fills its ring: the queue that takes the
// place of the first, and its txq, when that is detached (drivers/net/tun.c:
// __tun_detach).
func (s *Stage) standBy() (err error) {
	if s.next, err = s.dev.AddQueue(); err != nil {
		return err
	}
	if err := s.steer(1); err != nil {
		return err
	}
	for range s.Ring {
		if _, err := s.second.Send(); err != nil {
			return err
		}
	}
	return s.steer(0)
}

// giveWay detaches the first queue.
func (s *Stage) giveWay() error {
	s.gone = true
	return s.dev.Detach(s.queue)
}

// takeOver closes the first queue, and reads from the second from now on. Its
// ring is still full, so a packet that is sent now has to wait.
func (s *Stage) takeOver() error {
	if !s.gone {
		if err := s.giveWay(); err != nil {
			return err
		}
	}
	if err := s.dev.CloseQueue(s.queue); err != nil {
		return err
	}
	s.queue, s.gone, s.ring = s.next, false, newRing(s.Ring)
	s.receiver.Reopen(s.dev.Queues()[s.queue])
	return s.fill(1)
}

// steer sends all packets to one txq.
func (s *Stage) steer(txq int32) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "steer", Type: ebpf.SocketFilter, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, txq), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("load a program that steers: %w", err)
	}
	defer program.Close()
	return s.dev.SetSteering(program.FD())
}
