package traffic

import (
	"encoding/binary"
	"hash/crc32"
)

// arrival is what parse makes of the bytes that a reader got.
type arrival struct {
	Packet
	pktgen bool
	// attempt tells pktgen's packets of the same sequence number apart: it is
	// the IP ID, which counts every packet that pktgen builds, while the
	// sequence number counts only those that were not refused. NET_XMIT_CN
	// counts as refused although the packet was queued (net/core/pktgen.c:
	// pktgen_xmit), so such a number lawfully arrives twice.
	attempt uint16
	// wrong says what is wrong with the packet; "" if nothing.
	wrong string
	// foreign: no source of ours sent it, as far as its ports tell.
	foreign bool
}

// pktgenMagic begins pktgen's payload (net/core/pktgen.c: PKTGEN_MAGIC).
const pktgenMagic = 0xbe9be955

// pktgenHeaderLen is sizeof(struct pktgen_hdr): magic, sequence, time.
const pktgenHeaderLen = 16

// parse identifies a packet and compares every byte that its sender chose.
func parse(b []byte, ethernet bool) arrival {
	foreign := func(why string) arrival { return arrival{foreign: true, wrong: why} }
	if ethernet {
		if len(b) < ethernetLen || b[12] != 0x08 || b[13] != 0x00 {
			return foreign("not IPv4")
		}
		b = b[ethernetLen:]
	}
	if len(b) < ipLen+udpLen || b[0] != 0x45 || b[9] != 17 {
		return foreign("not IPv4 and UDP")
	}
	source := binary.BigEndian.Uint16(b[ipLen:]) - sourcePort
	flow := binary.BigEndian.Uint16(b[ipLen+2:]) - flowPort
	if source >= MaxSources || flow >= MaxFlows {
		return foreign("not from a source's port to a flow's")
	}
	a := arrival{Packet: Packet{Source: uint8(source), Flow: flow}}
	size := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case size != len(b):
		a.wrong = "length differs from the IP header's"
	case onesSum(b[:ipLen]) != 0xffff:
		a.wrong = "IP header checksum"
	case int(binary.BigEndian.Uint16(b[ipLen+4:])) != size-ipLen:
		a.wrong = "UDP length"
	case len(b) < ipLen+udpLen+pktgenHeaderLen:
		a.wrong = "no room for a sequence number"
	}
	if a.wrong != "" {
		return a
	}
	payload := b[ipLen+udpLen:]
	if binary.BigEndian.Uint32(payload) == pktgenMagic {
		a.attempt = binary.BigEndian.Uint16(b[4:])
		a.parsePktgen(payload)
	} else {
		a.parseOwn(payload, size)
	}
	return a
}

func (a *arrival) parsePktgen(payload []byte) {
	a.pktgen = true
	a.Seq = uint64(binary.BigEndian.Uint32(payload[4:]))
	for _, c := range payload[pktgenHeaderLen:] {
		if c != 0 {
			a.wrong = "pktgen's payload is not zero"
			return
		}
	}
}

func (a *arrival) parseOwn(payload []byte, size int) {
	if len(payload) < headerLen || binary.BigEndian.Uint32(payload) != magic {
		a.wrong = "magic"
		return
	}
	if binary.BigEndian.Uint32(payload[20:]) != crc32.ChecksumIEEE(payload[:20]) {
		a.wrong = "header checksum"
		return
	}
	a.Seq = binary.BigEndian.Uint64(payload[8:])
	if binary.BigEndian.Uint16(payload[4:]) != uint16(a.Source) ||
		binary.BigEndian.Uint16(payload[6:]) != a.Flow ||
		int(binary.BigEndian.Uint16(payload[16:])) != size {
		a.wrong = "source, flow or length differ from the headers'"
		return
	}
	seed := patternSeed(a.Source, a.Seq)
	rest := payload[headerLen:]
	for i := 0; len(rest) > 0; i++ {
		word := patternWord(seed, i)
		if len(rest) < 8 {
			var tail [8]byte
			binary.BigEndian.PutUint64(tail[:], word)
			if string(rest) != string(tail[:len(rest)]) {
				a.wrong = "payload"
			}
			return
		}
		if binary.BigEndian.Uint64(rest) != word {
			a.wrong = "payload"
			return
		}
		rest = rest[8:]
	}
}
