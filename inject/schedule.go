package inject

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// Schedule is one interleaving: one side is held up at an instruction, the
// other acts to its end, and the first goes on.
type Schedule struct {
	Point    Point
	Opponent *Opponent
	Setting
}

// Setting is where a function's instructions are tried.
type Setting struct {
	Ring  int // tx_queue_len
	Qdisc netdev.Kind
	// Left, with a consumer held up, is how many packets the ring holds when
	// it reads: a full ring was read down to that before. With none it reads
	// as one that sleeps until there is a packet.
	Left int
	// Woken, with a producer held up: the ring is full before it sends, and
	// its txq was woken for all that, as a consumer does that is slow to wake
	// it and is overtaken.
	Woken bool
	// Trim is how many bytes the device's filter cuts from each packet.
	Trim int
	// Backpressure: the device is opened with IFF_BACKPRESSURE.
	Backpressure bool
	// Vhost: the consumer is vhost-net's worker, and not read(2).
	Vhost bool
}

// String is the schedule's id: "tun_net_xmit+0x1cb/drain-all/ring=1000/fq_codel",
// with "/left=1" behind it if it is a consumer that is held up, "/woken" if the
// ring is full, "/trim=4" if the device has a filter, "/backpressure" if it has
// IFF_BACKPRESSURE, and "/vhost" if vhost-net consumes.
func (s Schedule) String() string {
	id := fmt.Sprintf("%v/%s/ring=%d/%s", s.Point, s.Opponent.Name, s.Ring, s.Qdisc)
	if s.Opponent.Producer {
		id += fmt.Sprintf("/left=%d", s.Left)
	}
	if s.Woken {
		id += "/woken"
	}
	if s.Trim > 0 {
		id += fmt.Sprintf("/trim=%d", s.Trim)
	}
	if s.Backpressure {
		id += "/backpressure"
	}
	if s.Vhost {
		id += "/vhost"
	}
	return id
}

var idPattern = regexp.MustCompile(`^([\w.]+)\+(0x[0-9a-f]+)/([a-z-]+)/ring=(\d+)/(\w+)(?:/left=(\d+))?(/woken)?(?:/trim=(\d+))?(/backpressure)?(/vhost)?$`)

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
	s.Trim, _ = strconv.Atoi(m[8])
	s.Qdisc = netdev.Kind(m[5])
	s.Woken, s.Backpressure, s.Vhost = m[7] != "", m[9] != "", m[10] != ""
	if s.Woken && s.Opponent.Producer {
		return s, fmt.Errorf("schedule %s: woken belongs to those in which a producer is held up, and only there", id)
	}
	point, err := findPoint(m[1] + "+" + m[2])
	if err != nil {
		return s, fmt.Errorf("schedule %s: %w", id, err)
	}
	s.Point = point
	return s, nil
}

// blocks says whether the consumer that is held up is one that sleeps.
func (s Schedule) blocks() bool { return s.Opponent.Producer && s.Left == 0 && !s.Vhost }

// findPoint returns the running kernel's instruction at "symbol+offset".
func findPoint(place string) (Point, error) {
	symbol, offset, _ := strings.Cut(place, "+")
	f, err := Disassemble(symbol)
	if err != nil {
		return Point{}, err
	}
	at, err := strconv.ParseUint(offset, 0, 64)
	if err != nil {
		return Point{}, err
	}
	for _, p := range f.Points {
		if p.Symbol == symbol && p.Offset == at {
			return p, nil
		}
	}
	return Point{}, fmt.Errorf("no instruction of the running kernel begins at %s", place)
}
