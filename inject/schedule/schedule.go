package schedule

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// Schedule is one interleaving: one side is held up at an instruction, the
// other acts to its end, and the first goes on.
type Schedule struct {
	Point    disasm.Point
	Opponent *driver.Opponent
	stage.Setting
}

// String is the schedule's id: "tun_net_xmit+0x1cb/drain-all/ring=1000/fq_codel",
// with "/left=1" behind it if it is a consumer that is held up, and with the
// setting's suffix.
func (s Schedule) String() string {
	id := fmt.Sprintf("%v/%s/ring=%d/%s", s.Point, s.Opponent.Name, s.Ring, s.Qdisc)
	if s.Opponent.Producer {
		id += fmt.Sprintf("/left=%d", s.Left)
	}
	return id + s.Suffix()
}

// The grammar of ids. A schedule's is a point, an opponent and a setting; a pair's
// is two points and a setting, and that of a delayed store, or of a load that is early, a
// point, two steps and a setting.
const (
	pointID   = `[\w.]+\+0x[0-9a-f]+`
	stepID    = pointID + `(?::\d+)?`
	settingID = `ring=(\d+)/(\w+)(?:/left=(\d+))?(/woken)?(?:/trim=(\d+))?(/backpressure)?(?:/(\w+))?`
)

// What is between the two steps: the first becomes visible late, or the second, a load, is
// executed early.
const (
	late  = "~"
	early = "@"
)

var (
	scheduleID = regexp.MustCompile(`^(` + pointID + `)/([a-z-]+)/` + settingID + `$`)
	pairID     = regexp.MustCompile(`^(` + pointID + `)&(` + pointID + `)/` + settingID + `$`)
	storeID    = regexp.MustCompile(`^(` + pointID + `)&(` + stepID + `)([` + late + early + `])(` + stepID + `)/` + settingID + `$`)
	anyID      = regexp.MustCompile(pointID + `(?:&` + stepID + `(?:[` + late + early + `]` + stepID + `)?|/[a-z-]+)/ring=[\w/=]+`)
)

// IDs returns the ids of schedules and pairs that a text names.
func IDs(text string) []string { return anyID.FindAllString(text, -1) }

// IsPair says whether an id is that of a pair, IsStore whether it is that of a delayed
// store or an early load.
func IsPair(id string) bool  { return pairID.MatchString(id) }
func IsStore(id string) bool { return storeID.MatchString(id) }

// parseSetting reads what settingID has matched.
func parseSetting(drv *driver.Driver, m []string) (at stage.Setting, left bool, err error) {
	at.Ring, _ = strconv.Atoi(m[0])
	at.Qdisc = netdev.Kind(m[1])
	at.Left, _ = strconv.Atoi(m[2])
	at.Woken = m[3] != ""
	at.Trim, _ = strconv.Atoi(m[4])
	at.Backpressure = m[5] != ""
	at.Consumer = driver.Consumer(m[6])
	known := slices.ContainsFunc(drv.Targets, func(t driver.Target) bool { return t.Consumer == at.Consumer })
	if !known {
		err = fmt.Errorf("%s has no consumer %q", drv.Name, at.Consumer)
	}
	return at, m[2] != "", err
}

// Parse returns the schedule of that id, of a driver's device; the instruction must
// be one of the running kernel's.
func Parse(drv *driver.Driver, id string) (Schedule, error) {
	var s Schedule
	m := scheduleID.FindStringSubmatch(id)
	if m == nil {
		return s, fmt.Errorf("%q is no schedule: one looks like tun_net_xmit+0x1cb/drain-all/ring=1000/fq_codel", id)
	}
	opponents := Opponents(drv)
	i := slices.IndexFunc(opponents, func(o *driver.Opponent) bool { return o.Name == m[2] })
	if i < 0 {
		return s, fmt.Errorf("schedule %s: there is no opponent %q", id, m[2])
	}
	s.Opponent = opponents[i]
	var left bool
	var err error
	if s.Setting, left, err = parseSetting(drv, m[3:]); err != nil {
		return s, fmt.Errorf("schedule %s: %w", id, err)
	}
	if s.Opponent.Producer != left {
		return s, fmt.Errorf("schedule %s: left= is only for schedules that hold up a consumer", id)
	}
	if s.Woken && s.Opponent.Producer {
		return s, fmt.Errorf("schedule %s: woken is only for schedules that hold up a producer", id)
	}
	if s.Point, err = disasm.At(m[1]); err != nil {
		return s, fmt.Errorf("schedule %s: %w", id, err)
	}
	return s, nil
}

// blocks says whether the consumer that is held up is one that sleeps.
func (s Schedule) blocks() bool { return s.Opponent.Producer && s.Left == 0 && !s.works() }

// works says whether the consumer is a worker.
func (s Schedule) works() bool { return s.Consumer != "" }
