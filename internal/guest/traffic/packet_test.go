package traffic

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
)

var testLink = &Link{Name: "tap0", ethernet: true, mtu: 1500, mac: [6]byte{2, 0, 0, 0, 0, 1}, local: [4]byte{198, 18, 3, 1}, peer: [4]byte{198, 18, 3, 2}}

func parsed(b []byte, ethernet bool) arrival {
	var a arrival
	a.parse(b, ethernet)
	return a
}

func testPacket(p Packet, size int) []byte {
	return appendPayload(testLink.appendHeaders(nil, p, size), p, size)
}

func TestAPacketOfEveryLengthIsRecognised(t *testing.T) {
	for size := MinSize; size <= MaxSize; size++ {
		want := Packet{Source: 7, Flow: 300, Seq: uint64(size) << 40}
		b := testPacket(want, size)
		if len(b) != ethernetLen+size {
			t.Fatalf("size %d: built %d bytes", size, len(b)-ethernetLen)
		}
		if a := parsed(b, true); a.Packet != want || a.wrong != "" || a.foreign {
			t.Fatalf("size %d: parsed %+v, want %v", size, a, want)
		}
		if a := parsed(b[ethernetLen:], false); a.Packet != want || a.wrong != "" {
			t.Fatalf("size %d without link header: parsed %+v, want %v", size, a, want)
		}
	}
}

// Of a packet that arrives with any one bit changed nothing is right, but for
// the places that the receiver cannot know: MAC addresses, UDP checksum.
func TestEveryChangedBitIsNoticed(t *testing.T) {
	b := testPacket(Packet{Source: 1, Flow: 2, Seq: 3}, 100)
	for i := ethernetLen - 2; i < len(b); i++ {
		if i == ethernetLen+ipLen+6 || i == ethernetLen+ipLen+7 {
			continue
		}
		for bit := range 8 {
			b[i] ^= 1 << bit
			if a := parsed(b, true); a.wrong == "" {
				t.Errorf("bit %d of byte %d changed, and nothing is wrong with %v", bit, i, a.Packet)
			}
			b[i] ^= 1 << bit
		}
	}
}

func TestATruncatedPacketIsCorrupted(t *testing.T) {
	b := testPacket(Packet{Source: 1}, 100)
	for n := ethernetLen + ipLen + udpLen; n < len(b); n++ {
		if a := parsed(b[:n], true); a.wrong == "" || a.foreign {
			t.Errorf("first %d bytes: %+v, want corrupted", n, a)
		}
	}
}

// pktgenPacket is laid out as net/core/pktgen.c, fill_packet_ipv4, does.
func pktgenPacket(source uint8, seq uint32, attempt uint16) []byte {
	b := testLink.appendHeaders(nil, Packet{Source: source}, 64)
	ip := b[ethernetLen:]
	binary.BigEndian.PutUint16(ip[4:], attempt)
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^onesSum(ip))
	b = binary.BigEndian.AppendUint32(b, pktgenMagic)
	b = binary.BigEndian.AppendUint32(b, seq)
	return append(b, make([]byte, 64-ipLen-udpLen-8)...)
}

func TestPktgensPacketsAreRecognised(t *testing.T) {
	b := pktgenPacket(5, 77, 1234)
	if a := parsed(b, true); a.wrong != "" || a.Source != 5 || a.Seq != 77 || a.attempt != 1234 || !a.pktgen {
		t.Errorf("parsed %+v", a)
	}
	b[len(b)-1] = 1
	if a := parsed(b, true); a.wrong == "" {
		t.Error("its last byte is not what pktgen sends, and that was not noticed")
	}
}

func TestWhatNoSourceSentIsForeign(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":      nil,
		"ARP":        append(make([]byte, 12), 0x08, 0x06, 0, 1),
		"IPv6":       append(make([]byte, 12), 0x86, 0xdd, 0x60),
		"other port": func() []byte { b := testPacket(Packet{}, 64); b[ethernetLen+ipLen] = 0; return b }(),
	} {
		if a := parsed(b, true); !a.foreign {
			t.Errorf("%s: %+v, want foreign", name, a)
		}
	}
}

// A packet whose header asks for something to be done with it is not what was
// sent.
func TestAVirtioHeaderMustBePlain(t *testing.T) {
	packet := testPacket(Packet{Source: 1}, 100)
	for at := range 12 {
		for _, value := range []byte{0, 1} {
			s := sink{ethernet: true, header: 12, awaited: new(atomic.Pointer[[]*Arrival])}
			header := make([]byte, 12)
			header[at] = value
			s.take(append(header, packet...))
			// num_buffers, the last two bytes, is not the packet's affair.
			if bad := s.corrupted == 1; bad != (value != 0 && at < 10) {
				t.Errorf("byte %d of the header is %d, and the packet counts as corrupted: %v", at, value, bad)
			}
		}
	}
}
