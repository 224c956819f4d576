package traffic

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// xdp is the program that brings a frame into the ring of a tap device, which
// keeps no account of frames that do not fit: send no more than there is room.
type xdp struct {
	program *ebpf.Program
	// attached is to the device, for XDPTransmit.
	attached link.Link
}

// openRedirect loads a program that redirects to the device what it is run on.
func (s *Sender) openRedirect() error {
	spec, err := loadXdp()
	if err != nil {
		return err
	}
	if err := spec.Variables[xdpVarIfindex].Set(uint32(s.link.Index)); err != nil {
		return err
	}
	var loaded struct {
		Redirect *ebpf.Program `ebpf:"redirect"`
	}
	if err := spec.LoadAndAssign(&loaded, nil); err != nil {
		return xdpError(err)
	}
	s.xdp.program = loaded.Redirect
	return nil
}

// openTransmit attaches a program that turns around what a queue writes.
func (s *Sender) openTransmit() (err error) {
	var loaded struct {
		Transmit *ebpf.Program `ebpf:"transmit"`
	}
	if err := loadXdpObjects(&loaded, nil); err != nil {
		return xdpError(err)
	}
	s.xdp.program = loaded.Transmit
	s.xdp.attached, err = link.AttachXDP(link.XDPOptions{Program: s.xdp.program, Interface: s.link.Index, Flags: link.XDPDriverMode})
	if err != nil {
		return fmt.Errorf("attach an XDP program: %w", err)
	}
	return nil
}

func xdpError(err error) error {
	if errors.Is(err, ebpf.ErrNotSupported) {
		return &kernelfeature.MissingError{Option: "CONFIG_BPF_SYSCALL", What: "XDP programs", Err: err}
	}
	return fmt.Errorf("load an XDP program: %w", err)
}

// redirect runs the program on a frame that is then the device's
// (Documentation/bpf/bpf_prog_run.rst: live frames).
func (x *xdp) redirect(frame []byte) error {
	_, err := x.program.Run(&ebpf.RunOptions{Data: frame, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES, Repeat: 1})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, ebpf.ErrNotSupported) {
		return &kernelfeature.MissingError{Option: "Linux 5.18", What: "BPF_PROG_RUN of live XDP frames", Err: err}
	}
	return err
}

// transmit writes a frame to the queue without blocking, which is what the
// driver asks for before it runs the program on a frame instead of an skb
// (drivers/net/tun.c: tun_can_build_skb).
func transmit(queue int, frame []byte) error {
	_, err := unix.Pwritev2(queue, [][]byte{frame}, -1, unix.RWF_NOWAIT)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return &kernelfeature.MissingError{Option: "Linux 6.4", What: "write to a tap device with RWF_NOWAIT", Err: err}
	}
	return err
}

func (x *xdp) close() error {
	var errs []error
	if x.attached != nil {
		errs = append(errs, x.attached.Close())
	}
	if x.program != nil {
		errs = append(errs, x.program.Close())
	}
	*x = xdp{}
	return errors.Join(errs...)
}
