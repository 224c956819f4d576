// Package traffic sends packets through a network device that can be told
// apart one by one, and receives them: which source sent each, on which flow,
// in which order, and whether every byte is what was sent.
//
// All packets are IPv4/UDP, so that qdiscs and txq selection see the same
// shape whoever sends them.
package traffic

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
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
	// CRC-32 of these 20 bytes (4). The rest is the pattern.
	headerLen = 24
)

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

// patternWord is the i-th 8 bytes of a packet's payload. It depends on the
// packet and on the place, so that bytes that were swapped, moved or taken
// from another packet show.
func patternWord(seed uint64, i int) uint64 {
	x := (seed + uint64(i)) * 0x9e3779b97f4a7c15
	return x ^ x>>32
}

func patternSeed(source uint8, seq uint64) uint64 {
	return seq<<16 ^ uint64(source)<<8 ^ 0x52505246
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
	buf = binary.BigEndian.AppendUint32(buf, crc32.ChecksumIEEE(buf[start:]))
	end := start + size - ipLen - udpLen
	seed := patternSeed(p.Source, p.Seq)
	for i := 0; len(buf) < end; i++ {
		buf = binary.BigEndian.AppendUint64(buf, patternWord(seed, i))
	}
	return buf[:end]
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
	binary.BigEndian.PutUint16(buf[ip+10:], ^onesSum(buf[ip:ip+ipLen]))
	buf = binary.BigEndian.AppendUint16(buf, sourcePort+uint16(p.Source))
	buf = binary.BigEndian.AppendUint16(buf, flowPort+p.Flow)
	buf = binary.BigEndian.AppendUint16(buf, uint16(size-ipLen))
	return append(buf, 0, 0) // no UDP checksum
}

// onesSum is RFC 1071's sum, before the complement.
func onesSum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}
