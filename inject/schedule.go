package inject

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/ringproof/ringproof/internal/guest/tuntap"
)

// Schedule is one interleaving: one side is held up at an instruction, the
// other acts to its end, and the first goes on.
type Schedule struct {
	Point    Point
	Opponent *Opponent
	Ring     int // tx_queue_len
	Qdisc    tuntap.Kind
	// Left, with a consumer held up, is how many packets the ring holds when
	// it reads: a full ring was read down to that before.
	Left int
	// Trim is how many bytes the device's filter cuts from each packet.
	Trim int
}

// String is the schedule's id: "tun_net_xmit+0x1cb/drain-all/ring=1000/fq_codel",
// with "/left=1" behind it if it is a consumer that is held up, and "/trim=4"
// if the device has a filter.
func (s Schedule) String() string {
	id := fmt.Sprintf("%v/%s/ring=%d/%s", s.Point, s.Opponent.Name, s.Ring, s.Qdisc)
	if s.Opponent.Producer {
		id += fmt.Sprintf("/left=%d", s.Left)
	}
	if s.Trim > 0 {
		id += fmt.Sprintf("/trim=%d", s.Trim)
	}
	return id
}

var idPattern = regexp.MustCompile(`^([\w.]+)\+(0x[0-9a-f]+)/([a-z-]+)/ring=(\d+)/(\w+)(?:/left=(\d+))?(?:/trim=(\d+))?$`)

// Parse returns the schedule of that id; the instruction must be one of the
// running kernel's.
func Parse(id string) (Schedule, error) {
	var s Schedule
	m := idPattern.FindStringSubmatch(id)
	if m == nil {
		return s, fmt.Errorf("%q is no schedule: one looks like tun_net_xmit+0x1cb/drain-all/ring=1000/fq_codel", id)
	}
	i := slices.IndexFunc(Opponents(), func(o *Opponent) bool { return o.Name == m[3] })
	if i < 0 {
		return s, fmt.Errorf("schedule %s: there is no opponent %q", id, m[3])
	}
	s.Opponent = Opponents()[i]
	if s.Opponent.Producer != (m[6] != "") {
		return s, fmt.Errorf("schedule %s: left= belongs to those in which a consumer is held up, and only there", id)
	}
	s.Ring, _ = strconv.Atoi(m[4])
	s.Left, _ = strconv.Atoi(m[6])
	s.Trim, _ = strconv.Atoi(m[7])
	s.Qdisc = tuntap.Kind(m[5])
	f, err := Disassemble(m[1])
	if err != nil {
		return s, fmt.Errorf("schedule %s: %w", id, err)
	}
	offset, err := strconv.ParseUint(m[2], 0, 64)
	if err != nil {
		return s, fmt.Errorf("schedule %s: %w", id, err)
	}
	for _, p := range f.Points {
		if p.Symbol == m[1] && p.Offset == offset {
			s.Point = p
			return s, nil
		}
	}
	return s, fmt.Errorf("schedule %s: no instruction of the running kernel begins at %s+%s", id, m[1], m[2])
}
