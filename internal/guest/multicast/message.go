package multicast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// kind of a message.
type kind byte

const (
	data   kind = iota + 1 // a chunk; number is its place among its sender's of the group
	poll                   // asks a group's receiver what it has; number is the round's
	report                 // answers a poll: its number, and a bitmap
)

// message is what a datagram carries: kind, sender, group, a zero, the number in
// network byte order, and the rest.
type message struct {
	kind          kind
	sender, group byte
	number        uint32
	rest          []byte
}

const headerLen = 8

func (m message) append(buf []byte) []byte {
	buf = append(buf, byte(m.kind), m.sender, m.group, 0)
	buf = binary.BigEndian.AppendUint32(buf, m.number)
	return append(buf, m.rest...)
}

func parse(datagram []byte) (m message, err error) {
	if len(datagram) < headerLen {
		return m, fmt.Errorf("a datagram of %d bytes", len(datagram))
	}
	m = message{
		kind: kind(datagram[0]), sender: datagram[1], group: datagram[2],
		number: binary.BigEndian.Uint32(datagram[4:]), rest: datagram[headerLen:],
	}
	if m.kind < data || m.kind > report || datagram[3] != 0 {
		return m, errors.New("a datagram that is no message")
	}
	return m, nil
}

// bitmap says which chunks of one sender one group's receiver has: bit i of byte j
// is the group's chunk 8*j+i.
type bitmap []byte

func newBitmap(chunks int) bitmap { return make(bitmap, (chunks+7)/8) }

func (b bitmap) set(chunk int)      { b[chunk/8] |= 1 << (chunk % 8) }
func (b bitmap) has(chunk int) bool { return b[chunk/8]>>(chunk%8)&1 != 0 }

// count is how many chunks it has.
func (b bitmap) count() (n int) {
	for _, eight := range b {
		n += bits.OnesCount8(eight)
	}
	return n
}

// merge adds what another bitmap has, of the same sender and group.
func (b bitmap) merge(other []byte) error {
	if len(other) != len(b) {
		return fmt.Errorf("a bitmap of %d bytes where there are %d", len(other), len(b))
	}
	for i := range b {
		b[i] |= other[i]
	}
	return nil
}
