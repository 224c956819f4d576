package report

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// The drawing of a ledger, in the units of its view box. It is as wide as a phone, so
// that its letters can be read on one.
const (
	flowWidth  = 400
	flowBar    = 10 // width of a node
	flowHeight = 120
	flowLine   = 14 // height of a line of letters
)

// node is a heap of packets.
type node struct {
	label []string // a line each
	class string
	n     uint64
	x, y  float64
	high  float64
	out   float64 // how much of it is drawn as leaving
}

// flow draws the ledger as a flow, from left to right: offered, accepted or refused,
// received, lost by reason, or left.
func flow(b *contract.Books) template.HTML {
	if b == nil || b.Offered == 0 {
		return ""
	}
	label := func(n uint64, lines ...string) []string {
		lines[0] = fmt.Sprintf("%d %s", n, lines[0])
		return lines
	}
	accepted := uint64(max(b.Accepted(), 0))
	offered := &node{label: label(b.Offered, "offered"), class: "offered", n: b.Offered}
	second := []*node{{label: label(accepted, "accepted"), class: "offered", n: accepted}}
	if n := b.Unallocated + b.Refused; n > 0 {
		second = append(second, &node{label: label(n, "refused"), class: "refused", n: n})
	}
	third := []*node{{label: label(b.Received, "received"), class: "received", n: b.Received}}
	// Packets that were refused when they were skbs are freed as well, and which of
	// those that were freed they are is not known.
	if b.Refused == 0 {
		for _, freed := range []map[string]uint64{b.Drops, b.Quiet} {
			for _, reason := range slices.Sorted(maps.Keys(freed)) {
				what, where, _ := strings.Cut(reason, "@")
				third = append(third, &node{label: label(freed[reason], "lost:", what, where), class: "lost", n: freed[reason]})
			}
		}
	} else if lost := b.Lost(); lost > 0 {
		third = append(third, &node{label: label(uint64(lost), "lost"), class: "lost", n: uint64(lost)})
	}
	if n := b.LeftQdisc + b.LeftRing; n > 0 {
		third = append(third, &node{label: label(n, "left"), class: "left", n: n})
	}
	scale := func(n uint64) float64 { return max(1.5, flowHeight*float64(n)/float64(b.Offered)) }
	height := 0.0
	for column, nodes := range [][]*node{{offered}, second, third} {
		y := float64(flowLine)
		for _, at := range nodes {
			at.x, at.y, at.high = float64(column)*(flowWidth*0.3), y, scale(at.n)
			y += max(at.high, float64(len(at.label)*flowLine)) + flowLine
		}
		height = max(height, y)
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg class="flow" viewBox="0 0 %d %.0f" role="img" aria-label="%s">`, flowWidth, height, template.HTMLEscapeString(b.String()))
	band := func(from, to *node, n uint64, class string) {
		if n == 0 {
			return
		}
		thick := scale(n)
		x0, x1, y0, y1 := from.x+flowBar, to.x, from.y+from.out, to.y
		from.out += thick
		if from.y+from.out > from.y+from.high { // what is too thin to see was made thicker
			y0, from.out = from.y+from.high-min(thick, from.high), from.high
		}
		mid := (x0 + x1) / 2
		fmt.Fprintf(&s, `<path class="band %s" d="M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1fV%.1fC%.1f %.1f %.1f %.1f %.1f %.1fZ"/>`, class,
			x0, y0, mid, y0, mid, y1, x1, y1, y1+thick, mid, y1+thick, mid, y0+thick, x0, y0+thick)
	}
	for _, to := range second {
		band(offered, to, to.n, to.class)
	}
	for _, to := range third {
		band(second[0], to, to.n, to.class)
	}
	for _, nodes := range [][]*node{{offered}, second, third} {
		for _, at := range nodes {
			fmt.Fprintf(&s, `<rect class="%s" x="%.1f" y="%.1f" width="%d" height="%.1f"/>`, at.class, at.x, at.y, flowBar, at.high)
			for i, line := range at.label {
				fmt.Fprintf(&s, `<text x="%.1f" y="%.1f">%s</text>`, at.x+flowBar+4, at.y+float64(flowLine*i)+10, template.HTMLEscapeString(line))
			}
		}
	}
	s.WriteString("</svg>")
	return template.HTML(s.String())
}
