package veth

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/traffic"
)

// XDP actions (include/uapi/linux/bpf.h: enum xdp_action).
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpTransmit = 3
)

// always does the same with each packet.
func always(action int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, action), asm.Return()}
}

// dropFrom drops what a source of ours sends, and passes all else.
func dropFrom(source uint8) asm.Instructions {
	const port = 14 + 20 // of IPv4 without options
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data of struct xdp_md
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Imm(asm.R0, xdpPass),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, port+2),
		asm.JGT.Reg(asm.R4, asm.R3, "done"),
		asm.LoadMem(asm.R5, asm.R2, port, asm.Half),
		asm.JNE.Imm(asm.R5, int32(bits.ReverseBytes16(traffic.SourcePort(source))), "done"),
		asm.Mov.Imm(asm.R0, xdpDrop),
		asm.Return().WithSymbol("done"),
	}
}

// redirect sends each packet through another device.
func redirect(ifindex int) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(ifindex)), asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(), asm.Return(),
	}
}

// attach attaches a program to the far end, or puts it in the place of another.
func (p *pair) attach(instructions asm.Instructions) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: instructions})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return &kernelfeature.MissingError{Option: "CONFIG_BPF_SYSCALL", What: "XDP programs", Err: err}
	}
	if err != nil {
		return fmt.Errorf("load an XDP program: %w", err)
	}
	if p.attached != nil {
		err = p.attached.Update(program)
	} else {
		p.attached, err = link.AttachXDP(link.XDPOptions{Program: program, Interface: p.far.Ifindex(), Flags: link.XDPDriverMode})
	}
	if err != nil {
		return errors.Join(fmt.Errorf("attach an XDP program to %s: %w", p.far.Name(), err), program.Close())
	}
	err = p.program.Close()
	p.program = program
	return err
}

// detach removes the program, if there is one.
func (p *pair) detach() error {
	if p.attached == nil {
		return nil
	}
	err := errors.Join(p.attached.Close(), p.program.Close())
	p.attached, p.program = nil, nil
	return err
}
