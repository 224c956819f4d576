package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Kind is a qdisc's name, as tc has it.
type Kind string

const (
	Noqueue   Kind = "noqueue"
	PfifoFast Kind = "pfifo_fast"
	Pfifo     Kind = "pfifo"
	FQ        Kind = "fq"
	FQCodel   Kind = "fq_codel"
	MQ        Kind = "mq"
	TBF       Kind = "tbf"
	Netem     Kind = "netem"
)

// Qdisc says which qdisc to set. A parameter that is zero keeps the kernel's
// default; one that the kind does not have is an error.
type Qdisc struct {
	Kind Kind
	// Limit is how much it holds before it drops: in packets, except TBF's,
	// which is in bytes. Pfifo's default is tx_queue_len; PfifoFast has
	// always tx_queue_len, for each of its three bands.
	Limit uint32
	// FlowLimit is how many packets FQ holds for one flow (default 100).
	FlowLimit uint32
	// Rate in bytes/s: TBF (required), Netem.
	Rate uint64
	// Burst in bytes: TBF (required), at least one packet.
	Burst uint32
	// Delay is how long Netem holds each packet, or how long one may wait in
	// TBF, which gives its limit if Limit is 0.
	Delay time.Duration
	// Leaf is set under each txq's class of an MQ. The default is the
	// kernel's default qdisc (net.core.default_qdisc).
	Leaf *Qdisc
}

func (q Qdisc) String() string {
	var b strings.Builder
	b.WriteString(string(q.Kind))
	if q.Limit != 0 {
		fmt.Fprintf(&b, " limit %d", q.Limit)
	}
	if q.FlowLimit != 0 {
		fmt.Fprintf(&b, " flow_limit %d", q.FlowLimit)
	}
	if q.Rate != 0 {
		fmt.Fprintf(&b, " rate %dB/s", q.Rate)
	}
	if q.Burst != 0 {
		fmt.Fprintf(&b, " burst %d", q.Burst)
	}
	if q.Delay != 0 {
		fmt.Fprintf(&b, " delay %v", q.Delay)
	}
	if q.Leaf != nil {
		fmt.Fprintf(&b, " of %v", *q.Leaf)
	}
	return b.String()
}

// Shaped says that the qdisc holds packets back by the clock: that it holds
// some does not mean that its txq is stopped.
func (q Qdisc) Shaped() bool {
	return q.Kind == TBF || q.Kind == Netem || q.Leaf != nil && q.Leaf.Shaped()
}

// option is the kernel option that brings each kind; CONFIG_NET_SCHED brings
// the others.
var option = map[Kind]string{
	FQ:      "CONFIG_NET_SCH_FQ",
	FQCodel: "CONFIG_NET_SCH_FQ_CODEL",
	TBF:     "CONFIG_NET_SCH_TBF",
	Netem:   "CONFIG_NET_SCH_NETEM",
}

// SetQdisc replaces the root qdisc. What the old one held is dropped. A kernel
// without the qdisc is a *kernelfeature.MissingError.
func (d *Device) SetQdisc(q Qdisc) error {
	// A handle that is new each time makes the kernel create a qdisc even
	// when the old one is of the same kind; else it would change the
	// parameters of that one (net/sched/sch_api.c: tc_modify_qdisc).
	d.major++
	root := netlink.QdiscAttrs{LinkIndex: d.index, Handle: netlink.MakeHandle(d.major, 0), Parent: netlink.HANDLE_ROOT}
	if err := d.graft(root, q); err != nil {
		return err
	}
	if q.Leaf == nil {
		return nil
	}
	if q.Kind != MQ {
		return fmt.Errorf("set qdisc %v on %s: only mq has leaves", q, d.name)
	}
	txqs, err := d.TxQueues()
	if err != nil {
		return fmt.Errorf("set qdisc %v on %s: %w", q, d.name, err)
	}
	rootMajor := d.major
	for txq := range txqs {
		d.major++
		leaf := netlink.QdiscAttrs{LinkIndex: d.index, Handle: netlink.MakeHandle(d.major, 0), Parent: netlink.MakeHandle(rootMajor, uint16(txq+1))}
		if err := d.graft(leaf, *q.Leaf); err != nil {
			return fmt.Errorf("txq %d: %w", txq, err)
		}
	}
	return nil
}

func (d *Device) graft(attrs netlink.QdiscAttrs, q Qdisc) error {
	wanted, err := q.request(attrs)
	if err != nil {
		return fmt.Errorf("set qdisc %v on %s: %w", q, d.name, err)
	}
	if fifo, ok := wanted.(*pfifoLimit); ok {
		err = fifo.replace()
	} else {
		err = netlink.QdiscReplace(wanted)
	}
	return d.refused(q, err)
}

// refused says why the kernel did not set q; nil if it did.
func (d *Device) refused(q Qdisc, err error) error {
	missing := option[q.Kind]
	switch {
	case err == nil:
		return nil
	// net/sched/sch_api.c, qdisc_create: "Specified qdisc kind is unknown".
	case errors.Is(err, unix.ENOENT) && missing != "":
		return &kernelfeature.MissingError{Option: missing, What: "qdisc " + string(q.Kind), Err: err}
	// No handler for RTM_NEWQDISC at all.
	case errors.Is(err, unix.EOPNOTSUPP) && q.Kind != MQ:
		return &kernelfeature.MissingError{Option: "CONFIG_NET_SCHED", What: "qdiscs", Err: err}
	}
	return fmt.Errorf("set qdisc %v on %s: %w", q, d.name, err)
}

// request checks q and turns it into the netlink library's form.
func (q Qdisc) request(attrs netlink.QdiscAttrs) (netlink.Qdisc, error) {
	has := Qdisc{Kind: q.Kind, Leaf: q.Leaf}
	var wanted netlink.Qdisc
	switch q.Kind {
	case Noqueue, PfifoFast, MQ:
		wanted = &netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: string(q.Kind)}
	case Pfifo:
		has.Limit = q.Limit
		wanted = &netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: string(q.Kind)}
		if q.Limit != 0 {
			wanted = &pfifoLimit{GenericQdisc: netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: string(q.Kind)}, limit: q.Limit}
		}
	case FQ:
		has.Limit, has.FlowLimit = q.Limit, q.FlowLimit
		fq := netlink.NewFq(attrs)
		fq.PacketLimit, fq.FlowPacketLimit = q.Limit, q.FlowLimit
		wanted = fq
	case FQCodel:
		has.Limit = q.Limit
		codel := netlink.NewFqCodel(attrs)
		codel.Limit = q.Limit
		wanted = codel
	case TBF:
		has.Limit, has.Rate, has.Burst, has.Delay = q.Limit, q.Rate, q.Burst, q.Delay
		if q.Rate == 0 || q.Burst == 0 || q.Limit == 0 && q.Delay == 0 {
			return nil, errors.New("tbf needs Rate, Burst and one of Limit and Delay")
		}
		limit := uint64(q.Limit)
		if limit == 0 {
			limit = uint64(float64(q.Rate)*q.Delay.Seconds()) + uint64(q.Burst)
		}
		if limit > math.MaxUint32 {
			return nil, fmt.Errorf("tbf's limit of %d bytes is more than 32 bits", limit)
		}
		wanted = &netlink.Tbf{QdiscAttrs: attrs, Rate: q.Rate, Limit: uint32(limit), Buffer: netlink.Xmittime(q.Rate, q.Burst)}
	case Netem:
		has.Limit, has.Rate, has.Delay = q.Limit, q.Rate, q.Delay
		wanted = netlink.NewNetem(attrs, netlink.NetemQdiscAttrs{Latency: uint32(q.Delay.Microseconds()), Limit: q.Limit, Rate64: q.Rate})
	default:
		return nil, errors.New("unknown kind")
	}
	if has != q {
		return nil, fmt.Errorf("%s has only these of the parameters: %v", q.Kind, has)
	}
	return wanted, nil
}

// pfifoLimit is a pfifo with a limit, which the netlink library cannot set.
type pfifoLimit struct {
	netlink.GenericQdisc
	limit uint32
}

func (q *pfifoLimit) replace() error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	req.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(q.LinkIndex), Handle: q.Handle, Parent: q.Parent})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(q.QdiscType)))
	// include/uapi/linux/pkt_sched.h: struct tc_fifo_qopt.
	req.AddData(nl.NewRtAttr(nl.TCA_OPTIONS, binary.NativeEndian.AppendUint32(nil, q.limit)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
