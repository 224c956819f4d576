// Package traffic sends packets through a network device and receives them. Each
// packet identifies itself: the receiver knows which source sent it, on which flow and
// in which order, and checks every byte.
//
// All packets are IPv4/UDP, so qdiscs and txq selection treat them alike, whoever sends
// them.
package traffic

import (
	"encoding/binary"
	"fmt"
)

const (
	// MaxSources is how many sources there can be: their IDs are below it.
	MaxSources = 256
	// MaxFlows is how many flows a source can have.
	MaxFlows = 1024
	// MinSize is the shortest packet, and MaxSize the longest, in bytes from
	// the IP header on.
	MinSize = ipLen + udpLen + headerLen
	MaxSize = 1500
)

// A packet's source is known by its UDP source port and its flow by its
// destination port, so that different flows hash to different txqs.
const (
	sourcePort = 20000
	flowPort   = 30000
)

const (
	ethernetLen = 14
	ipLen       = 20
	udpLen      = 8
	// headerLen bytes follow the UDP header, in network byte order:
	// magic (4), source (2), flow (2), sequence (8), IP length (2), zero (2),
	// headerSum of these 20 bytes (4). The rest is patternOf the packet.
	headerLen = 24
)

// SourcePort is the UDP port that a source sends from.
func SourcePort(source uint8) uint16 { return sourcePort + uint16(source) }

const magic = 0x52505246 // "RPRF"

// Packet identifies one packet.
type Packet struct {
	Source uint8
	Flow   uint16
	// Seq counts a source's packets over all its flows, from 0; pktgen's
	// from 1.
	Seq uint64
}

func (p Packet) String() string {
	return fmt.Sprintf("source %d flow %d sequence %d", p.Source, p.Flow, p.Seq)
}

// patternStarts is at how many places of pattern a payload can start; each
// leaves room for the longest IP packet there is.
const patternStarts = 1 << 15

// pattern is what payloads are cut from: pseudo-random bytes, so that bytes
// that were lost, added, swapped or moved show.
var pattern = func() []byte {
	var table []byte
	for i := uint64(1); len(table) < patternStarts+1<<16; i++ {
		x := i * 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		table = binary.LittleEndian.AppendUint64(table, x^x>>27)
	}
	return table
}()

// patternOf is the payload of a packet, n bytes of it. Where it is cut depends
// on the packet, so that bytes of another one show.
func patternOf(source uint8, seq uint64, n int) []byte {
	start := (seq*0x9e3779b97f4a7c15 + uint64(source)<<56) >> 49
	return pattern[start:][:n]
}

// appendPayload appends what follows the UDP header of a packet of size bytes
// from the IP header on.
func appendPayload(buf []byte, p Packet, size int) []byte {
	start := len(buf)
	buf = binary.BigEndian.AppendUint32(buf, magic)
	buf = binary.BigEndian.AppendUint16(buf, uint16(p.Source))
	buf = binary.BigEndian.AppendUint16(buf, p.Flow)
	buf = binary.BigEndian.AppendUint64(buf, p.Seq)
	buf = binary.BigEndian.AppendUint16(buf, uint16(size))
	buf = append(buf, 0, 0)
	buf = binary.BigEndian.AppendUint32(buf, headerSum(buf[start:]))
	return append(buf, patternOf(p.Source, p.Seq, size-MinSize)...)
}

// appendHeaders appends the link, IP and UDP headers.
func (l *Link) appendHeaders(buf []byte, p Packet, size int) []byte {
	if l.ethernet {
		buf = append(buf, l.mac[:]...)
		buf = append(buf, l.mac[:]...)
		buf = append(buf, 0x08, 0x00)
	}
	ip := len(buf)
	buf = append(buf, 0x45, 0)
	buf = binary.BigEndian.AppendUint16(buf, uint16(size))
	buf = binary.BigEndian.AppendUint16(buf, uint16(p.Seq))
	buf = append(buf, 0, 0, 32, 17, 0, 0) // no fragment, TTL, UDP, checksum
	buf = append(buf, l.local[:]...)
	buf = append(buf, l.peer[:]...)
	binary.BigEndian.PutUint16(buf[ip+10:], ^onesSum(buf[ip:]))
	buf = binary.BigEndian.AppendUint16(buf, sourcePort+uint16(p.Source))
	buf = binary.BigEndian.AppendUint16(buf, flowPort+p.Flow)
	buf = binary.BigEndian.AppendUint16(buf, uint16(size-ipLen))
	return append(buf, 0, 0) // no UDP checksum
}

// onesSum is RFC 1071's sum, before the complement, of an IP header without
// options. It may add 32 bits at a time, because 2^16 is 1 to its modulus.
func onesSum(header []byte) uint16 {
	header = header[:ipLen]
	sum := uint64(binary.BigEndian.Uint32(header)) + uint64(binary.BigEndian.Uint32(header[4:])) +
		uint64(binary.BigEndian.Uint32(header[8:])) + uint64(binary.BigEndian.Uint32(header[12:])) +
		uint64(binary.BigEndian.Uint32(header[16:]))
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}

// headerSum protects the first 20 bytes that follow the UDP header.
func headerSum(header []byte) uint32 {
	header = header[:20]
	x := binary.BigEndian.Uint64(header) * 0x9e3779b97f4a7c15
	x = (x ^ x>>29 ^ binary.BigEndian.Uint64(header[8:])) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>32 ^ uint64(binary.BigEndian.Uint32(header[16:]))) * 0x94d049bb133111eb
	return uint32(x >> 32)
}
