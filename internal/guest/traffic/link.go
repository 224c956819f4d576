package traffic

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is a network device to send through.
type Link struct {
	Name  string
	Index int

	ethernet bool // frames have an Ethernet header
	mac      [6]byte
	mtu      int
	// local and peer are the addresses in every packet, from the range for
	// benchmarks (RFC 2544).
	local, peer [4]byte
}

// LinkByName finds the device of that name.
func LinkByName(name string) (*Link, error) {
	found, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find network device %s: %w", name, err)
	}
	attrs := found.Attrs()
	l := &Link{Name: name, Index: attrs.Index, mtu: attrs.MTU}
	l.ethernet = len(attrs.HardwareAddr) == len(l.mac)
	copy(l.mac[:], attrs.HardwareAddr)
	net198, subnet := 18+byte(attrs.Index>>8&1), byte(attrs.Index)
	l.local = [4]byte{198, net198, subnet, 1}
	l.peer = [4]byte{198, net198, subnet, 2}
	return l, nil
}

// Ethernet says whether frames on the link have an Ethernet header.
func (l *Link) Ethernet() bool { return l.ethernet }

// addAddress gives the device its address and a neighbour that needs no ARP,
// so that UDP sockets can send through it.
func (l *Link) addAddress() error {
	on := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: l.Index, Name: l.Name}}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: l.local[:], Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrReplace(on, addr); err != nil {
		return fmt.Errorf("give %s the address %v: %w", l.Name, addr, err)
	}
	if !l.ethernet {
		return nil
	}
	neighbour := &netlink.Neigh{LinkIndex: l.Index, State: netlink.NUD_PERMANENT, IP: l.peer[:], HardwareAddr: l.mac[:]}
	if err := netlink.NeighSet(neighbour); err != nil {
		return fmt.Errorf("give %s the neighbour %v: %w", l.Name, neighbour.IP, err)
	}
	return nil
}

// up says whether the device is up, as far as that can be known: one that is
// gone is not.
func (l *Link) up() bool {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return false
	}
	// It may have been renamed.
	ifr.SetUint32(uint32(l.Index))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	for _, request := range []uint{unix.SIOCGIFNAME, unix.SIOCGIFFLAGS} {
		if err := unix.IoctlIfreq(fd, request, ifr); err != nil {
			return false
		}
	}
	return ifr.Uint16()&unix.IFF_UP != 0
}
