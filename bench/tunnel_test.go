package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"github.com/ringproof/ringproof/internal/guest/traffic"
	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// shape says what a tunnel is made of.
type shape struct {
	// via is "tun" or "tap", forwarded by read(2) and write(2), or "vhost": a tap
	// device whose ring vhost-net's worker consumes.
	via        string
	txQueueLen int
	// qdisc of the near device.
	qdisc netdev.Qdisc
	// delay of what the far end sends, so that the near device's qdisc is none that
	// holds packets by the clock.
	delay time.Duration
	// offload: packets of up to 64 KiB, without checksums, cross the tunnel, as
	// between virtual machines of one host. Not with vhost: its buffers hold a frame.
	offload bool
}

// tunnel is two network namespaces, each with a device, and what forwards packets
// from one to the other, as a VPN or the emulation of a network card does. What is
// measured is the near device's way out.
type tunnel struct {
	near, far *end
	there     forwarder
	back      *traffic.Forwarder
}

type forwarder interface {
	Packets() uint64
	Done() <-chan struct{}
	Err() error
}

// end is a namespace with its device.
type end struct {
	ns       *netdev.Namespace
	device   *tuntap.Device
	ip4, ip6 net.IPNet
}

// The addresses are those for benchmarks (RFC 2544, RFC 5180).
func newEnd(host byte) *end {
	ip6 := net.ParseIP("2001:2::")
	ip6[15] = host
	return &end{
		ip4: net.IPNet{IP: net.IPv4(198, 18, 0, host), Mask: net.CIDRMask(24, 32)},
		ip6: net.IPNet{IP: ip6, Mask: net.CIDRMask(64, 128)},
	}
}

// openTunnel makes one. A kernel that lacks something for it is a
// *kernelfeature.MissingError.
func openTunnel(s shape) (_ *tunnel, err error) {
	t := &tunnel{near: newEnd(1), far: newEnd(2)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make a tunnel: %w", err), t.close())
		}
	}()
	cfg := tuntap.Config{Mode: tuntap.TAP}
	if s.via == "tun" {
		cfg.Mode = tuntap.TUN
	}
	if s.offload || s.via == "vhost" {
		cfg.Flags |= unix.IFF_VNET_HDR
	}
	if setting.backpressure {
		cfg.Flags |= tuntap.IFFBackpressure
	}
	near, far := cfg, cfg
	near.TxQueueLen, near.Qdisc = &s.txQueueLen, s.qdisc
	// What goes back is acknowledgements: their device has room for them.
	roomy := 1000
	far.TxQueueLen, far.Qdisc = &roomy, netdev.Qdisc{Kind: netdev.PfifoFast}
	if s.delay != 0 {
		far.Qdisc = netdev.Qdisc{Kind: netdev.Netem, Delay: s.delay, Limit: 1e6}
	}
	if err := t.near.open(near, s.offload); err != nil {
		return nil, err
	}
	if err := t.far.open(far, s.offload); err != nil {
		return nil, err
	}
	for _, pair := range [][2]*end{{t.near, t.far}, {t.far, t.near}} {
		if err := pair[0].address(pair[1]); err != nil {
			return nil, err
		}
	}
	return t, t.forward(s.via)
}

func (e *end) open(cfg tuntap.Config, offload bool) (err error) {
	if e.ns, err = netdev.NewNamespace(); err != nil {
		return err
	}
	return e.ns.Do(func() (err error) {
		if e.device, err = tuntap.Open(cfg); err != nil {
			return err
		}
		if !offload {
			return nil
		}
		err = unix.IoctlSetInt(e.device.Queues()[0], unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
		if err != nil {
			return fmt.Errorf("TUNSETOFFLOAD: %w", err)
		}
		return nil
	})
}

// address gives the device its addresses, and tells it the other's, so that
// nobody has to be asked.
func (e *end) address(other *end) error {
	return e.ns.Do(func() error {
		link, err := netlink.LinkByName(e.device.Name())
		if err != nil {
			return err
		}
		peer, err := other.mac()
		if err != nil {
			return err
		}
		families := []struct{ near, far net.IPNet }{{e.ip4, other.ip4}}
		switch err := wakeIPv6(e.device.Name()); {
		case err == nil:
			families = append(families, struct{ near, far net.IPNet }{e.ip6, other.ip6})
		case !errors.Is(err, fs.ErrNotExist): // the kernel has no IPv6
			return err
		}
		for _, f := range families {
			if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &f.near, Flags: unix.IFA_F_NODAD}); err != nil {
				return fmt.Errorf("give %s the address %v: %w", e.device.Name(), &f.near, err)
			}
			if len(peer) == 0 {
				continue
			}
			neighbour := &netlink.Neigh{LinkIndex: e.device.Ifindex(), State: netlink.NUD_PERMANENT, IP: f.far.IP, HardwareAddr: peer}
			if err := netlink.NeighSet(neighbour); err != nil {
				return fmt.Errorf("give %s the neighbour %v: %w", e.device.Name(), f.far.IP, err)
			}
		}
		return nil
	})
}

func (e *end) mac() (mac net.HardwareAddr, err error) {
	err = e.ns.Do(func() error {
		link, err := netlink.LinkByName(e.device.Name())
		if err == nil {
			mac = link.Attrs().HardwareAddr
		}
		return err
	})
	return mac, err
}

// wakeIPv6 switches IPv6 on for a device that was opened without, and keeps it
// from what it would send of its own accord.
func wakeIPv6(name string) error {
	for _, set := range [][2]string{{"accept_ra", "0"}, {"router_solicitations", "0"}, {"addr_gen_mode", "1"}, {"accept_dad", "0"}, {"disable_ipv6", "0"}} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/"+set[0], []byte(set[1]), 0); err != nil {
			return fmt.Errorf("switch IPv6 on: %w", err)
		}
	}
	return nil
}

// needIPv6 returns nil, or what the kernel lacks.
func needIPv6() error {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return &kernelfeature.MissingError{Option: "CONFIG_IPV6", What: "IPv6", Err: err}
	}
	return nil
}

func (t *tunnel) forward(via string) (err error) {
	near, far := t.near.device.Queues()[0], t.far.device.Queues()[0]
	if via == "vhost" {
		c, err := startCard(near, far)
		if err != nil {
			return err
		}
		t.there = c
	}
	for _, fd := range []int{near, far} {
		if err := unix.SetNonblock(fd, false); err != nil {
			return err
		}
	}
	if via != "vhost" {
		f, err := traffic.StartForwarder(near, far)
		if err != nil {
			return err
		}
		t.there = f
	}
	t.back, err = traffic.StartForwarder(far, near)
	return err
}

// broken says why a forwarder has ended; nil as long as both forward.
func (t *tunnel) broken() error {
	for _, f := range []forwarder{t.there, t.back} {
		select {
		case <-f.Done():
			return f.Err()
		default:
		}
	}
	return nil
}

// close removes the devices, which ends the forwarders.
func (t *tunnel) close() error {
	var errs []error
	if c, ok := t.there.(*card); ok {
		errs = append(errs, c.stop())
	}
	for _, e := range []*end{t.near, t.far} {
		if e.device != nil {
			errs = append(errs, e.ns.Do(e.device.Remove))
		}
	}
	// Not before both have ended: a descriptor that is closed may be another's soon.
	if f, ok := t.there.(*traffic.Forwarder); ok {
		<-f.Done()
	}
	if t.back != nil {
		<-t.back.Done()
	}
	return errors.Join(append(errs, t.near.close(), t.far.close())...)
}

func (e *end) close() (err error) {
	if e.device != nil {
		err = e.ns.Do(e.device.Close)
	}
	if e.ns != nil {
		err = errors.Join(err, e.ns.Close())
	}
	return err
}

// stands says where packets are that do not move, after a while in which they
// could have.
func (t *tunnel) stands() string {
	before := t.look()
	time.Sleep(time.Second)
	now := t.look()
	var b strings.Builder
	if now.near.qlen > 0 && !now.near.ring && now.near == before.near && now.forwarded == before.forwarded {
		b.WriteString("the near txq " + cost.Stalled + "; ")
	}
	fmt.Fprintf(&b, "near %v; far %v; %d packets were forwarded, %d of them within the last second", now.near, now.far, now.forwarded, now.forwarded-before.forwarded)
	if err := t.broken(); err != nil {
		fmt.Fprintf(&b, "; %v", err)
	}
	return b.String()
}

// sight is a look at a tunnel.
type sight struct {
	near, far backlog
	forwarded uint64
}

type backlog struct {
	qdisc netdev.Kind
	qlen  uint32
	ring  bool // there is something to read
	err   string
}

func (b backlog) String() string {
	if b.err != "" {
		return "unknown: " + b.err
	}
	ring := "is empty"
	if b.ring {
		ring = "has packets"
	}
	return fmt.Sprintf("%s holds %d packets and the ring %s", b.qdisc, b.qlen, ring)
}

func (t *tunnel) look() sight {
	return sight{near: t.near.backlog(), far: t.far.backlog(), forwarded: t.there.Packets()}
}

func (e *end) backlog() (b backlog) {
	if err := e.ns.Do(func() error {
		stats, err := e.device.QdiscStats()
		if err != nil {
			return err
		}
		if len(stats) == 0 {
			return errors.New("no qdisc")
		}
		b.qdisc, b.qlen = stats[0].Kind, netdev.SumQdiscs(stats).Qlen
		b.ring = readable(e.device.Queues()[0])
		return nil
	}); err != nil {
		b.err = err.Error()
	}
	return b
}

func readable(fd int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0
}

// tally is what the kernel has counted by some moment.
type tally struct {
	watch     stopwatch
	activity  activity
	requeues  uint32
	forwarded uint64
}

func (t *tunnel) tally() (c tally, err error) {
	if c.requeues, err = t.requeues(); err != nil {
		return c, err
	}
	if c.activity, err = readActivity(); err != nil {
		return c, err
	}
	c.forwarded = t.there.Packets()
	c.watch, err = startWatch()
	return c, err
}

// since adds what has been counted since before: instructions for each of the KiB that
// have arrived, and the rest for each packet that was forwarded to the far end.
func (t *tunnel) since(before tally, arrived float64, s *cost.Sample) (err error) {
	s.Window, err = before.watch.stop()
	if err != nil {
		return err
	}
	now, err := t.tally()
	if err != nil {
		return err
	}
	packets := now.forwarded - before.forwarded
	if packets == 0 {
		return errors.New("no packet was forwarded")
	}
	if setting.instructions {
		s.Window.Unit, s.Window.Per = "instr/KiB", arrived
	}
	now.activity.per(packets, before.activity, s.Values)
	s.Values["requeues/pkt"] = float64(now.requeues-before.requeues) / float64(packets)
	return nil
}

func (t *tunnel) requeues() (n uint32, err error) {
	err = t.near.ns.Do(func() error {
		stats, err := t.near.device.QdiscStats()
		n = netdev.SumQdiscs(stats).Requeues
		return err
	})
	return n, err
}
