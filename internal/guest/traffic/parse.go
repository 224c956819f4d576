package traffic

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// arrival is what a reader makes of the bytes that it got.
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
func (a *arrival) parse(b []byte, ethernet bool) {
	*a = arrival{}
	if ethernet {
		if len(b) < ethernetLen || b[12] != 0x08 || b[13] != 0x00 {
			a.foreign, a.wrong = true, "not IPv4"
			return
		}
		b = b[ethernetLen:]
	}
	if len(b) < ipLen+udpLen || b[0] != 0x45 || b[9] != 17 {
		a.foreign, a.wrong = true, "not IPv4 and UDP"
		return
	}
	source := binary.BigEndian.Uint16(b[ipLen:]) - sourcePort
	flow := binary.BigEndian.Uint16(b[ipLen+2:]) - flowPort
	if source >= MaxSources || flow >= MaxFlows {
		a.foreign, a.wrong = true, "not from a source's port to a flow's"
		return
	}
	a.Source, a.Flow = uint8(source), flow
	size := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case size != len(b):
		a.wrong = "length differs from the IP header's"
	case onesSum(b) != 0xffff:
		a.wrong = "IP header checksum"
	case int(binary.BigEndian.Uint16(b[ipLen+4:])) != size-ipLen:
		a.wrong = "UDP length"
	case len(b) < ipLen+udpLen+pktgenHeaderLen:
		a.wrong = "no room for a sequence number"
	}
	if a.wrong != "" {
		return
	}
	payload := b[ipLen+udpLen:]
	if binary.BigEndian.Uint32(payload) == pktgenMagic {
		a.attempt = binary.BigEndian.Uint16(b[4:])
		a.parsePktgen(payload)
	} else {
		a.parseOwn(payload, size)
	}
}

// zeros is pktgen's payload.
var zeros [MaxSize]byte

func (a *arrival) parsePktgen(payload []byte) {
	a.pktgen = true
	a.Seq = uint64(binary.BigEndian.Uint32(payload[4:]))
	if rest := payload[pktgenHeaderLen:]; !bytes.Equal(rest, zeros[:min(len(rest), len(zeros))]) {
		a.wrong = "pktgen's payload is not zero"
	}
}

func (a *arrival) parseOwn(payload []byte, size int) {
	if len(payload) < headerLen || binary.BigEndian.Uint32(payload) != magic {
		a.wrong = "magic"
		return
	}
	if binary.BigEndian.Uint32(payload[20:]) != headerSum(payload) {
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
	if rest := payload[headerLen:]; !bytes.Equal(rest, patternOf(a.Source, a.Seq, len(rest))) {
		a.wrong = "payload"
	}
}

// Identify says which packet of a Sender's b is. It compares every byte that the
// sender chose; the error says what is wrong.
func Identify(b []byte, ethernet bool) (Packet, error) {
	var a arrival
	if a.parse(b, ethernet); a.wrong != "" {
		return a.Packet, errors.New(a.wrong)
	}
	return a.Packet, nil
}
