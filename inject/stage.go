package inject

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/ledger"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"github.com/ringproof/ringproof/internal/guest/vhost"
	"golang.org/x/sys/unix"
)

// Stage is what schedules run on: one device with one txq, its senders, its
// reader, and its ledger.
type Stage struct {
	Ring  int // tx_queue_len
	Qdisc netdev.Kind
	// Trim is how many bytes the device's filter (TUNSETFILTEREBPF) cuts from
	// each packet; 0 is no filter.
	Trim int
	// Backpressure: the device was opened with IFF_BACKPRESSURE.
	Backpressure bool

	dev      *tuntap.Device
	link     *traffic.Link
	ledger   *ledger.Ledger
	receiver *traffic.Receiver
	ring     *ring
	// card is nil unless vhost-net consumes; hand is how many packets its worker
	// had in hand when it was plugged in and that have not been received.
	card    *vhost.Queue
	plugged bool
	hand    int
	// unplugged is how the counts stood when it last was.
	unplugged account
	// queue is the index of the device's queue, which changes when it is
	// closed and opened again.
	queue int
	// next is a queue that is to take its place, and gone whether it was
	// detached for that.
	next int
	gone bool
	// truncated packets were read into a buffer that was too short.
	truncated uint64
	// victim is the producer that is held up; filler, second and fresh are
	// the controller's. second goes past the qdisc.
	victim, filler, second, fresh *traffic.Sender
	// drops is what the ledger had seen when it was last asked, and quiet what
	// it has found to be freed quietly.
	drops, quiet map[string]uint64
}

// Sources of a stage's packets.
const (
	victimSource = iota + 1
	fillerSource
	secondSource
	freshStageSource
)

// vnetHeader is the size of a virtio_net_hdr unless TUNSETVNETHDRSZ says otherwise.
const vnetHeader = 10

// packetBytes is the length of all packets of a stage, from the IP header on.
const packetBytes = 64

// NewStage makes the device of a setting; Left does not matter to it. With Vhost
// it has a virtqueue of vhost-net.
func NewStage(at Setting) (_ *Stage, err error) {
	s := &Stage{Ring: at.Ring, Qdisc: at.Qdisc, Trim: at.Trim, Backpressure: at.Backpressure, ring: newRing(at.Ring)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	// With IFF_VNET_HDR, as virtual machines have it, a read into memory that
	// is not there fails: the driver heeds whether it could copy that header
	// (drivers/net/tun.c: tun_put_user), and nothing else.
	flags := uint16(unix.IFF_VNET_HDR)
	if at.Backpressure {
		flags |= tuntap.IFFBackpressure
	}
	// With IFF_MULTI_QUEUE a queue can be detached.
	s.dev, err = tuntap.Open(tuntap.Config{
		Mode: tuntap.TAP, MultiQueue: true, TxQueueLen: &at.Ring, Qdisc: netdev.Qdisc{Kind: at.Qdisc}, Flags: flags,
	})
	if err != nil {
		return nil, err
	}
	if s.link, err = traffic.LinkByName(s.dev.Name()); err != nil {
		return nil, err
	}
	if s.ledger, err = ledger.Open(s.dev); err != nil {
		return nil, err
	}
	length := 0
	if at.Trim > 0 {
		if length, err = s.trim(); err != nil {
			return nil, err
		}
	}
	header := vnetHeader
	if at.Vhost {
		header = vhost.HeaderBytes
		if err = s.addCard(); err != nil {
			return nil, err
		}
	}
	s.receiver = traffic.NewReceiver(s.link, s.dev.Queues()[0], header, length)
	for _, sender := range []struct {
		to     **traffic.Sender
		source uint8
		path   traffic.Path
	}{
		{&s.victim, victimSource, traffic.PacketSocket},
		{&s.filler, fillerSource, traffic.PacketSocket},
		{&s.second, secondSource, traffic.PacketBypass},
		{&s.fresh, freshStageSource, traffic.PacketSocket},
	} {
		cfg := traffic.SenderConfig{Path: sender.path, Source: sender.source, MinBytes: packetBytes, MaxBytes: packetBytes, SendBuffer: 64 << 20}
		if *sender.to, err = traffic.NewSender(s.link, cfg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// trim attaches the filter, and returns how long packets are behind it.
func (s *Stage) trim() (length int, err error) {
	filter, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "trim", Type: ebpf.SocketFilter, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R0, asm.R1, 0, asm.Word), // struct __sk_buff: len
			asm.Sub.Imm(asm.R0, int32(s.Trim)),
			asm.Return(),
		},
	})
	if err != nil {
		return 0, fmt.Errorf("load a filter that trims: %w", err)
	}
	defer filter.Close()
	if err := s.dev.SetFilter(filter.FD()); err != nil {
		return 0, err
	}
	const ethernet = 14
	return ethernet + packetBytes - s.Trim, nil
}

func (s *Stage) senders() []*traffic.Sender {
	return []*traffic.Sender{s.victim, s.filler, s.second, s.fresh}
}

// Close removes the device.
func (s *Stage) Close() error {
	var errs []error
	for _, sender := range s.senders() {
		if sender != nil {
			errs = append(errs, sender.Close())
		}
	}
	if s.card != nil {
		errs = append(errs, s.card.Close())
	}
	if s.ledger != nil {
		errs = append(errs, s.ledger.Close())
	}
	if s.dev != nil {
		errs = append(errs, s.dev.Close())
	}
	return errors.Join(errs...)
}

// fill sends so many packets through the qdisc.
func (s *Stage) fill(packets int) error {
	for range packets {
		if outcome, err := s.filler.Send(); err != nil {
			return err
		} else if outcome == traffic.Full {
			return fmt.Errorf("fill the ring of %s: the send buffer is full", s.link.Name)
		}
	}
	return nil
}

// read takes one packet, if there is one.
func (s *Stage) read() (bool, error) {
	ok, err := s.receiver.Read()
	if ok {
		s.ring.consume()
	}
	return ok, err
}

// drain takes up to max packets, and says how many there were.
func (s *Stage) drain(max int) (int, error) {
	if s.plugged {
		return s.receive(max)
	}
	for n := range max {
		if ok, err := s.read(); !ok || err != nil {
			return n, err
		}
	}
	return max, nil
}

// block says whether reads sleep until there is a packet.
func (s *Stage) block(on bool) error {
	if err := unix.SetNonblock(s.dev.Queues()[s.queue], !on); err != nil {
		return fmt.Errorf("let reads of %s sleep: %w", s.dev.Name(), err)
	}
	return nil
}

// all is more than any ring or qdisc holds.
const all = 1 << 20

// readable waits until there is something to read, or for the time.
func (s *Stage) readable(wait time.Duration) bool {
	if s.plugged {
		return s.called(wait)
	}
	return poll(s.dev.Queues()[s.queue], wait)
}

// realign brings the ring's positions back to its start, after something has
// moved them that s.ring could not follow. The ring must be empty.
func (s *Stage) realign() error {
	if s.ring.batch == 1 {
		return nil // then all of an empty ring is free, wherever they are
	}
	return s.resize()
}

// resize changes the ring's size and back, which wakes the txq of most designs.
// What is in the ring stays, from its start on.
func (s *Stage) resize() error {
	s.ledger.Reconfigured()
	for _, length := range []int{s.Ring + 1, s.Ring} {
		if err := s.dev.SetTxQueueLen(length); err != nil {
			return err
		}
	}
	s.ring = newRing(s.Ring)
	return nil
}

// account is how the counts of a stage stand.
type account struct {
	offered, unborn, refused, received, wrong uint64
}

func (s *Stage) account() account {
	a := account{received: s.receiver.Received() + s.truncated, wrong: s.receiver.Wrong()}
	for _, sender := range s.senders() {
		c := sender.Counts()
		a.offered += c.Offered
		a.unborn += c.Unborn
		a.refused += c.Refused
	}
	return a
}

func (a account) since(b account) account {
	return account{
		offered: a.offered - b.offered, unborn: a.unborn - b.unborn, refused: a.refused - b.refused,
		received: a.received - b.received, wrong: a.wrong - b.wrong,
	}
}

// born is how many packets became an skb.
func (a account) born() uint64 { return a.offered - a.unborn }

// audit compares what the counters of the device and its qdisc say of everything
// that the stage has seen with what was freed. It returns what it does not know
// which counter counts.
func (s *Stage) audit() (contract.Paths, error) {
	books, err := s.ledger.Books(*s.account().books(new(losses), 0))
	return books.Unknown, err
}

// freed returns what was dropped since it was last called, by "REASON@function".
func (s *Stage) freed() (map[string]uint64, error) {
	freed, err := s.ledger.Freed()
	if err != nil {
		return nil, err
	}
	now := make(map[string]uint64)
	for _, f := range freed {
		now[f.Reason+"@"+f.Function] += f.Count
	}
	since := beyond(now, s.drops)
	s.drops = now
	return since, nil
}

// freedQuietly returns what was freed quietly since it was last called, if that
// is why so many packets are nowhere. Nothing may move any more.
func (s *Stage) freedQuietly(missing int64) (map[string]uint64, error) {
	for _, n := range s.quiet {
		missing += int64(n)
	}
	// That it does not add up is for the books to say.
	now, err := s.ledger.Quiet(s.account().received, missing)
	if mismatch := (*ledger.MismatchError)(nil); err != nil && !errors.As(err, &mismatch) {
		return nil, err
	}
	if len(now) == 0 {
		return nil, nil
	}
	since := beyond(now, s.quiet)
	s.quiet = now
	return since, nil
}

// beyond is by how much the counts are higher than they were.
func beyond(now, before map[string]uint64) map[string]uint64 {
	since := maps.Clone(now)
	for key, n := range before {
		if since[key] -= n; since[key] == 0 {
			delete(since, key)
		}
	}
	return since
}

// qlen is how many packets the qdiscs hold.
func (s *Stage) qlen() (int, error) {
	stats, err := s.dev.QdiscStats()
	return int(netdev.SumQdiscs(stats).Qlen), err
}

// requeues is how often the qdiscs took a packet back.
func (s *Stage) requeues() (uint64, error) {
	stats, err := s.dev.QdiscStats()
	return uint64(netdev.SumQdiscs(stats).Requeues), err
}

// losses are the packets of one schedule that were freed: as dropped, and
// quietly.
type losses struct {
	drops, quiet map[string]uint64
	// total of both.
	total uint64
}

func newLosses() *losses {
	return &losses{drops: make(map[string]uint64), quiet: make(map[string]uint64)}
}

// add adds to one of both, and says whether there was anything to add.
func (l *losses) add(to, freed map[string]uint64) bool {
	for key, n := range freed {
		to[key] += n
		l.total += n
	}
	return len(freed) > 0
}

// books is the account of one schedule.
func (a account) books(lost *losses, left int) *contract.Books {
	return &contract.Books{
		Offered: a.offered, Unborn: a.unborn, Refused: a.refused, Received: a.received,
		Drops: lost.drops, Quiet: lost.quiet, LeftQdisc: uint64(left),
	}
}
