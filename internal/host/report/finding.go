package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// Finding is one that the guest made, and what the host knows of it.
type Finding struct {
	contract.Finding
	// Test is the one that made it.
	Test string `json:",omitempty"`
	// Replay is the command that runs its schedule or its sequences alone.
	Replay string `json:",omitempty"`
	// Source is where in the source that is, as far as VMLINUX tells.
	Source []Source `json:",omitempty"`
	// Cause is the number of the cause, from 1 on, which findings have in common; 0
	// as long as Causes has not been asked.
	Cause int `json:",omitempty"`
}

// Cause is what breaks a promise in one way: findings whose windows overlap,
// whatever the settings, the opponents and the consumers.
type Cause struct {
	Promise contract.Promise
	// Findings are in the order of how short their schedules are.
	Findings []*Finding
}

// First is the finding with the shortest schedule.
func (c *Cause) First() *Finding { return c.Findings[0] }

// Settings are the settings and opponents in which it was seen.
func (c *Cause) Settings() []string {
	var all []string
	for _, f := range c.Findings {
		if s := f.setting(); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// Windows are the instructions that break the promise in any setting, those that
// overlap together, by function.
func (c *Cause) Windows() []Window {
	var symbols []string
	var windows []Window
	for _, f := range c.Findings {
		for _, w := range f.windows() {
			windows = append(windows, w)
			if !slices.Contains(symbols, w.symbol) {
				symbols = append(symbols, w.symbol)
			}
		}
	}
	slices.SortFunc(windows, func(a, b Window) int {
		return cmp.Or(cmp.Compare(slices.Index(symbols, a.symbol), slices.Index(symbols, b.symbol)), cmp.Compare(a.from, b.from))
	})
	var apart []Window
	for _, w := range windows {
		if n := len(apart); n > 0 && apart[n-1].meets(w) {
			apart[n-1].to = max(apart[n-1].to, w.to)
			continue
		}
		apart = append(apart, w)
	}
	return apart
}

// Sources are the places in the source of all its findings, one for each function,
// the shortest schedule's first.
func (c *Cause) Sources() []Source {
	var all []Source
	for _, f := range c.Findings {
		for _, s := range f.Source {
			i := slices.IndexFunc(all, func(known Source) bool { return known.Function == s.Function && known.File == s.File })
			if i < 0 {
				all = append(all, s)
				continue
			}
			all[i] = all[i].with(s)
		}
	}
	return all
}

// Sides says who is held up in the function of that symbol.
func (c *Cause) Sides(symbol string) string {
	var who []string
	for _, f := range c.Findings {
		for i, w := range f.windows() {
			side := f.victim()
			if i > 0 {
				side = opposite(side)
			}
			if w.symbol == symbol && !slices.Contains(who, side) {
				who = append(who, side)
			}
		}
	}
	return strings.Join(who, " and ")
}

// Causes groups the findings, and numbers the groups.
func (r *Run) Causes() []*Cause {
	shapes := make([]shape, len(r.Findings))
	groups := make([][]int, 0, len(r.Findings)) // of findings, by their index
	for i := range r.Findings {
		shapes[i] = r.Findings[i].shape()
		joined := []int{i}
		groups = slices.DeleteFunc(groups, func(group []int) bool {
			same := slices.ContainsFunc(group, func(j int) bool { return shapes[i].sameCause(&shapes[j]) })
			if same {
				joined = append(joined, group...)
			}
			return same
		})
		groups = append(groups, joined)
	}
	var causes []*Cause
	for _, group := range groups {
		slices.Sort(group)
		c := &Cause{Promise: r.Findings[group[0]].Promise}
		for _, i := range group {
			c.Findings = append(c.Findings, &r.Findings[i])
		}
		slices.SortStableFunc(c.Findings, shorter)
		causes = append(causes, c)
	}
	slices.SortStableFunc(causes, func(a, b *Cause) int {
		return cmp.Or(cmp.Compare(slices.Index(contract.Promises(), a.Promise), slices.Index(contract.Promises(), b.Promise)), shorter(a.First(), b.First()))
	})
	for i, c := range causes {
		for _, f := range c.Findings {
			f.Cause = i + 1
		}
	}
	return causes
}

// shorter compares how much a reader of two findings has to follow. What breaks
// each time comes before what does not.
func shorter(a, b *Finding) int {
	offered := func(f *Finding) (packets uint64) {
		if f.Books != nil {
			packets = f.Books.Offered
		}
		return packets
	}
	last := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return cmp.Or(
		last(a.Failed < a.Tries)-last(b.Failed < b.Tries),
		last(a.pair())-last(b.pair()),
		cmp.Compare(strings.Count(a.Schedule, "/"), strings.Count(b.Schedule, "/")),
		cmp.Compare(offered(a), offered(b)),
		cmp.Compare(len(a.TimeLine), len(b.TimeLine)),
		cmp.Compare(strings.Count(a.Script, "\n"), strings.Count(b.Script, "\n")),
	)
}

// Window is a part of a function, in bytes from its start.
type Window struct {
	symbol   string
	from, to uint64
}

// longestInstruction is that of x86 (SDM volume 2, section 2.3.11), in bytes.
const longestInstruction = 15

// meets says whether the windows overlap, or one may begin at the instruction behind
// the other. A race that is not won each time leaves gaps in a window.
func (w Window) meets(v Window) bool {
	return w.symbol == v.symbol && w.from <= v.to+longestInstruction && v.from <= w.to+longestInstruction
}

func (w Window) String() string {
	if w.from == w.to {
		return fmt.Sprintf("%s+%#x", w.symbol, w.from)
	}
	return fmt.Sprintf("%s+%#x .. %+#x", w.symbol, w.from, w.to)
}

// windows are those in which a CPU is held up: one, or in a pair the two sides'. If a
// store is delayed, they are those of the store and the load.
func (f *Finding) windows() []Window {
	if f.Script != "" {
		return nil
	}
	symbol, from := split(f.From.Name)
	_, to := split(f.To.Name)
	all := []Window{{symbol, from, to}}
	if second := f.second(); second != "" {
		symbol, at := split(second)
		all = append(all, Window{symbol, at, at})
	}
	if f.Delayed != nil {
		symbol, at := split(f.Delayed.Load.Name)
		all = append(all, Window{symbol, at, at})
	}
	return all
}

// split takes "tun_net_xmit+0x1cb" apart.
func split(place string) (symbol string, offset uint64) {
	symbol, at, _ := strings.Cut(place, "+")
	offset, _ = strconv.ParseUint(at, 0, 64)
	return symbol, offset
}

// second names the place where the other side of a pair is held up; "" if it is
// no pair. The schedule's id has it, too: "a+0x1&b+0x2/ring=2/fq_codel".
func (f *Finding) second() string {
	if f.Second != nil {
		return f.Second.Name
	}
	places, _, _ := strings.Cut(f.Schedule, "/")
	_, second, _ := strings.Cut(places, "&")
	return second
}

func (f *Finding) pair() bool { return f.second() != "" }

// setting is the schedule's id without the instructions.
func (f *Finding) setting() string {
	if f.Script != "" {
		return f.Test
	}
	_, setting, _ := strings.Cut(f.Schedule, "/")
	return setting
}

// numbers are what differs between sequences that do the same.
var numbers = regexp.MustCompile(`\d+`)

// shape is what of a finding tells its cause.
type shape struct {
	promise         contract.Promise
	windows         []Window
	source          []Source
	setting, victim string
	script          string // without numbers
}

func (f *Finding) shape() shape {
	return shape{
		promise: f.Promise, windows: f.windows(), source: f.Source, setting: f.setting(), victim: f.victim(),
		script: numbers.ReplaceAllString(f.Script, "#"),
	}
}

// sameCause says whether two findings are of one cause. Two pairs are if both sides'
// windows overlap, or the lines that those are of. A schedule with one side held up
// lets the other run to its end, so it stands for all pairs with that window.
func (s *shape) sameCause(o *shape) bool {
	if s.promise != o.promise || s.script != o.script {
		return false
	}
	if s.script != "" {
		return true
	}
	shared := 0
	for _, w := range s.windows {
		if slices.ContainsFunc(o.windows, w.meets) || s.sameLine(w, o) {
			shared++
		}
	}
	if len(s.windows) > 1 && len(o.windows) > 1 {
		return shared == len(s.windows)
	}
	return shared > 0 || s.continues(o) || o.continues(s)
}

// sameLine says whether a line of the window in the source is one of the other's.
func (s *shape) sameLine(w Window, o *shape) bool {
	return slices.ContainsFunc(s.source, func(line Source) bool {
		return line.Symbol == w.symbol && slices.ContainsFunc(o.source, line.overlaps)
	})
}

// continues says whether a window begins where a function does, and the other is of
// another function, in the same setting and on the same side: nothing happens
// between the call and the first instruction, so the caller breaks there, too.
func (s *shape) continues(o *shape) bool {
	return len(s.windows) == 1 && len(o.windows) == 1 && s.windows[0].from == 0 && s.windows[0].symbol != o.windows[0].symbol &&
		s.setting == o.setting && s.victim == o.victim
}

// What a time line says of the moment from which on a CPU stays where it is, and of
// that at which it goes on.
const (
	heldUp = "is held up"
	goesOn = "goes on"
)

// opposite is the other side of a pair.
func opposite(side string) string {
	switch side {
	case contract.Producer:
		return contract.Consumer
	case contract.Consumer:
		return contract.Producer
	}
	return "other side"
}

// victim is who is held up, as the time line calls it; of a pair, who is so first.
func (f *Finding) victim() string {
	for _, m := range f.TimeLine {
		if m.What == heldUp {
			return m.Who
		}
	}
	return "CPU"
}
