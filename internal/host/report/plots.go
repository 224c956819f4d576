package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"
)

// figure is a drawing of what was measured, with the same numbers in a table.
type figure struct {
	Title string
	// How it is read.
	How    string
	Legend []legend
	SVG    template.HTML
	Head   []string
	Rows   [][]string
}

// legend says what is drawn in one way.
type legend struct{ Letter, Class, Says string }

// At most so many lines of TCP are drawn, and so many rows. Where all combinations are
// measured there are hundreds, and the tables have them.
const (
	mostTCP  = 4
	mostRows = 64
)

// figures are the drawings of what was measured, as far as it was.
func (m *Measured) figures() []figure {
	if m == nil || len(m.Variants) == 0 {
		return nil
	}
	all := m.tcp()
	for _, f := range []*figure{
		m.latency(), m.pktgen(),
		m.differences("instr/pkt", "Instructions per packet", "instructions per packet, more or less than the base"),
		m.differences("locked/pkt", "Locked instructions per packet", "locked instructions per packet, more or less than the base"),
	} {
		if f != nil {
			all = append(all, *f)
		}
	}
	return all
}

// workloads are those with that prefix, in their order.
func (m *Measured) workloads(ruler, prefix string) (names []string) {
	for _, v := range m.Values {
		if v.Ruler == ruler && strings.HasPrefix(v.Workload, prefix) && !slices.Contains(names, v.Workload) {
			names = append(names, v.Workload)
		}
	}
	return names
}

// lacks says why there is no value.
func (m *Measured) lacks(variant, workload, ruler string) string {
	v := m.find(variant, workload, ruler, "")
	switch {
	case v == nil:
		return "no value"
	case strings.HasPrefix(v.Lacks, "failed"):
		return "failed"
	}
	return "not run"
}

// inkOf is how the nth variant is drawn: the base in grey, the others in colours that
// come again, with marks that come again at other times.
func inkOf(nth int) (ink, mark) {
	if nth == 0 {
		return inkSoft, marks[0]
	}
	return inkFirst + ink((nth-1)%(len(inks)-int(inkFirst))), marks[nth%len(marks)]
}

// cell is a value in a table, with where it may be.
func (v *Value) cell(scale float64) string {
	text := amount(v.Center * scale)
	if v.Lo != nil {
		text += fmt.Sprintf(" (%s – %s)", amount(*v.Lo*scale), amount(*v.Hi*scale))
	}
	return text
}

// rest says what is not drawn.
func rest(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" %d more are in the tables below.", n)
}

// tcp is the throughput by the number of streams, a drawing for all that is alike
// otherwise.
func (m *Measured) tcp() (all []figure) {
	var order []string
	streams := make(map[string]map[int]string) // workloads, by what is alike
	for _, workload := range m.workloads("time", "TCP/") {
		var others []string
		n := 0
		for _, part := range strings.Split(strings.TrimPrefix(workload, "TCP/"), "/") {
			if number, ok := strings.CutPrefix(part, "streams="); ok {
				n, _ = strconv.Atoi(number)
			} else {
				others = append(others, part)
			}
		}
		alike := strings.Join(others, "/")
		if n > 0 && streams[alike] == nil {
			order, streams[alike] = append(order, alike), make(map[int]string)
		}
		if n > 0 {
			streams[alike][n] = workload
		}
	}
	order = slices.DeleteFunc(order, func(alike string) bool { return len(streams[alike]) < 2 })
	for i, alike := range order {
		if i == mostTCP {
			all[i-1].How += rest(len(order) - mostTCP)
			break
		}
		all = append(all, m.streams(alike, streams[alike]))
	}
	return all
}

func (m *Measured) streams(alike string, workloads map[int]string) figure {
	f := figure{
		Title: "TCP throughput by number of streams",
		How:   "Of " + strings.ReplaceAll(cost.Short(alike), "/", ", ") + ": medians, and intervals of 95 % where there are values enough.",
		Head:  []string{"streams"},
	}
	p := newPlot("streams", "payload, Mbit/s", &plotter.Grid{Vertical: stroke(inkLine, 0.5), Horizontal: stroke(inkLine, 0.5)})
	p.Y.Tick.Marker = amounts{}
	var counts []int
	for n := range workloads {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	var ticks plot.ConstantTicks
	for _, n := range counts {
		ticks = append(ticks, plot.Tick{Value: math.Log2(float64(n)), Label: fmt.Sprint(n)})
		f.Rows = append(f.Rows, []string{fmt.Sprint(n)})
	}
	p.X.Tick.Marker = ticks
	p.Y.Min = 0
	for nth, variant := range m.Variants {
		color, mark := inkOf(nth)
		f.Head = append(f.Head, variant.Name+", Mbit/s")
		f.Legend = append(f.Legend, legend{mark.Letter, color.class(), variant.Name})
		// Beside one another, or an interval hides others.
		beside := (float64(nth) - float64(len(m.Variants)-1)/2) * 0.05
		var line plotter.XYs // as far as each has a value
		end := func() {
			if line != nil {
				p.Add(&plotter.Line{XYs: line, LineStyle: stroke(color, 1.5)},
					&plotter.Scatter{XYs: line, GlyphStyle: draw.GlyphStyle{Color: color, Radius: 3.5, Shape: mark.glyph}})
			}
			line = nil
		}
		for i, n := range counts {
			v := m.find(variant.Name, workloads[n], "time", "bit/s")
			if v == nil {
				end()
				lacks := m.lacks(variant.Name, workloads[n], "time")
				f.Rows[i] = append(f.Rows[i], lacks)
				f.How += fmt.Sprintf(" %s with %s: %s.", variant.Name, contract.Count(n, "stream"), lacks)
				continue
			}
			f.Rows[i] = append(f.Rows[i], v.cell(1e-6))
			at := plotter.XY{X: ticks[i].Value + beside, Y: v.Center * 1e-6}
			line = append(line, at)
			if v.Lo != nil {
				bars := &plotter.YErrorBars{XYs: plotter.XYs{at}, YErrors: make(plotter.YErrors, 1), LineStyle: stroke(color, 1), CapWidth: 5}
				bars.YErrors[0].Low, bars.YErrors[0].High = (*v.Lo-v.Center)*1e-6, (*v.Hi-v.Center)*1e-6
				p.Add(bars)
			}
		}
		end()
	}
	f.SVG = drawn(p, plotLineHigh, f.Title+", "+cost.Short(alike))
	return f
}

// latency is how long a probe takes under load, by qdisc.
func (m *Measured) latency() *figure {
	workloads := m.workloads("time", "Latency/")
	f := figure{
		Title: "Latency under load, by qdisc",
		How:   "The time from send(2) to read(2) of a probe that arrives, beside the share of those that do not. The scale is logarithmic.",
		Head:  []string{"qdisc", "variant", "p50, ms", "p99, ms", "worst, ms", "lost"},
	}
	units := []struct{ unit, says string }{{"p50-us", "median"}, {"p99-us", "99 of 100 take less"}, {"max-us", "worst"}}
	colors := []ink{inkSoft, inkFirst, inkFirst + 1}
	for i, unit := range units {
		f.Legend = append(f.Legend, legend{marks[i].Letter, colors[i].class(), unit.says})
	}
	r := newRows("milliseconds")
	r.X.Scale = plot.LogScale{}
	low, high := math.Inf(1), math.Inf(-1)
	for _, workload := range workloads {
		qdisc := cost.Short(strings.TrimPrefix(workload, "Latency/"))
		if int(r.n)+1+len(m.Variants) > mostRows {
			f.How += rest(len(workloads) - len(r.headings))
			break
		}
		r.heading(qdisc)
		for _, variant := range m.Variants {
			y := r.row(variant.Name)
			row := []string{qdisc, variant.Name}
			var points []float64
			for i, unit := range units {
				v := m.find(variant.Name, workload, "time", unit.unit)
				if v == nil || v.Center <= 0 {
					row = append(row, m.lacks(variant.Name, workload, "time"))
					continue
				}
				row = append(row, v.cell(1e-3))
				points = append(points, v.Center*1e-3)
				low, high = min(low, v.Center*1e-3), max(high, v.Center*1e-3)
				r.point(y, v.Center*1e-3, colors[i], marks[i])
			}
			lost := m.find(variant.Name, workload, "time", "lost")
			if lost == nil {
				row = append(row, m.lacks(variant.Name, workload, "time"))
			} else {
				row = append(row, percent(lost.Center))
			}
			f.Rows = append(f.Rows, row)
			if points == nil {
				continue
			}
			r.between(y, points[0], points[len(points)-1], inkSoft, 0)
			if lost != nil {
				r.says(y, points[len(points)-1], percent(lost.Center)+" lost")
			}
		}
	}
	if math.IsInf(low, 0) {
		return nil
	}
	r.X.Min, r.X.Max = low/1.2, high*1.2
	var steps plot.ConstantTicks
	for x := math.Pow(10, math.Floor(math.Log10(low))); x <= r.X.Max; x *= 10 {
		for _, step := range []float64{1, 2, 5} {
			if step == 1 || high/low < 50 {
				steps = append(steps, plot.Tick{Value: x * step, Label: amount(x * step)})
			}
		}
	}
	r.X.Tick.Marker = steps
	f.SVG = r.drawn(f.Title)
	return &f
}

// percent is a share in per cent, with what is more than nothing told apart from it.
func percent(share float64) string {
	switch x := 100 * math.Abs(share); {
	case x == 0:
		return "none"
	case x < 0.01:
		return "less than 0.01 %"
	case x < 10:
		return fmt.Sprintf("%.2g %%", x)
	default:
		return fmt.Sprintf("%.0f %%", x)
	}
}

// pktgen is what a generator's packets become.
func (m *Measured) pktgen() *figure {
	workloads := m.workloads("time", "Pktgen/")
	f := figure{
		Title:  "Packets of pktgen, received and lost",
		How:    "Medians. Beside each is the share that is lost.",
		Legend: []legend{{"■", inkKept.class(), "received"}, {"■", inkBroken.class(), "lost"}},
		Head:   []string{"workload", "variant", "offered/s", "received/s", "lost/s"},
	}
	r := newRows("packets per second")
	r.X.Min = 0
	any := false
	for _, workload := range workloads {
		name := cost.Short(strings.TrimPrefix(workload, "Pktgen/"))
		if int(r.n)+1+len(m.Variants) > mostRows {
			f.How += rest(len(workloads) - len(r.headings))
			break
		}
		r.heading(name)
		for _, variant := range m.Variants {
			y := r.row(variant.Name)
			row := []string{name, variant.Name}
			for _, unit := range []string{"offered-pps", "rx-pps", "lost-pps"} {
				if v := m.find(variant.Name, workload, "time", unit); v != nil {
					row = append(row, v.cell(1))
				} else {
					row = append(row, m.lacks(variant.Name, workload, "time"))
				}
			}
			f.Rows = append(f.Rows, row)
			received, lost := m.find(variant.Name, workload, "time", "rx-pps"), m.find(variant.Name, workload, "time", "lost-pps")
			if received == nil || lost == nil {
				r.says(y, 0, m.lacks(variant.Name, workload, "time"))
				continue
			}
			any = true
			all := received.Center + lost.Center
			r.bar(y, 0, received.Center, inkKept)
			r.bar(y, received.Center, all, inkBroken)
			if all > 0 {
				r.says(y, all, percent(lost.Center/all))
			}
		}
	}
	if !any {
		return nil
	}
	f.SVG = r.drawn(f.Title)
	return &f
}

// differences are how much more a packet costs than with the base.
func (m *Measured) differences(unit, title, axis string) *figure {
	type pair struct {
		variant    string
		base, now  *Value
		diff, span float64
	}
	var order []string
	pairs := make(map[string][]pair)
	largest, any := 0.0, false
	for _, workload := range m.workloads("instructions", "Path/") {
		for _, variant := range m.Variants {
			if variant.Base == "" {
				continue
			}
			p := pair{variant: variant.Name, base: m.find(variant.Base, workload, "instructions", unit), now: m.find(variant.Name, workload, "instructions", unit)}
			if p.base != nil && p.now != nil {
				any = true
				p.diff = p.now.Center - p.base.Center
				if math.Abs(p.diff) <= p.base.Center/4 { // else another kind of thing happens
					largest = max(largest, math.Abs(p.diff))
				}
			}
			if pairs[workload] == nil {
				order = append(order, workload)
			}
			pairs[workload] = append(pairs[workload], p)
		}
	}
	if !any {
		return nil
	}
	if largest == 0 {
		for _, of := range pairs {
			for _, p := range of {
				largest = max(largest, math.Abs(p.diff))
			}
		}
	}
	largest = max(largest, 0.01) * 1.2
	f := figure{
		Title:  title + ": difference to the base",
		How:    "Bars are the difference of the medians, and thin lines where it may be. A bar that does not fit is cut.",
		Legend: []legend{{"■", inkFirst.class(), "difference"}, {"|", inkBroken.class(), "limit"}},
		Head:   []string{"workload", "variant", "base, " + unit, unit, "difference"},
	}
	r := newRows(axis)
	left := 0.0
	limits := false
	for _, workload := range order {
		name := cost.Short(strings.TrimPrefix(workload, "Path/"))
		if int(r.n)+1+len(pairs[workload]) > mostRows {
			f.How += rest(len(order) - len(r.headings))
			break
		}
		r.heading(name)
		for _, p := range pairs[workload] {
			y := r.row(p.variant)
			if p.now == nil || p.base == nil {
				lacks := m.lacks(p.variant, workload, "instructions")
				f.Rows = append(f.Rows, []string{name, p.variant, "", "", lacks})
				r.says(y, 0, lacks)
				continue
			}
			says := difference(p.diff, p.base.Center)
			f.Rows = append(f.Rows, []string{name, p.variant, p.base.cell(1), p.now.cell(1), says})
			cut := func(x float64) float64 { return max(-largest, min(largest, x)) }
			r.bar(y, 0, cut(p.diff), inkFirst)
			end := max(0, cut(p.diff))
			left = min(left, cut(p.diff))
			if p.now.Lo != nil && p.base.Lo != nil {
				low, high := *p.now.Lo-*p.base.Hi, *p.now.Hi-*p.base.Lo
				if high > low && low > -largest && high < largest {
					r.between(y, low, high, inkText, 6)
					end, left = max(end, high), min(left, low)
				}
			}
			if limit := (p.now.Limit - 1) * p.base.Center; p.now.Limit != 0 && limit < largest {
				limits = true
				const half = 0.45
				r.Add(&plotter.Line{XYs: plotter.XYs{{X: limit, Y: y - half}, {X: limit, Y: y + half}}, LineStyle: stroke(inkBroken, 1.5)})
				end = max(end, limit)
			}
			if cut(p.diff) != p.diff {
				says += ", cut"
			}
			r.says(y, end, says)
		}
	}
	if !limits {
		f.Legend = f.Legend[:1]
	}
	r.X.Min, r.X.Max = left, largest
	r.Add(&plotter.Line{XYs: plotter.XYs{{X: 0, Y: 0.5 - r.n}, {X: 0, Y: 0.5}}, LineStyle: stroke(inkSoft, 1)})
	f.SVG = r.drawn(f.Title)
	return &f
}

// difference is by how much a value differs from the base's.
func difference(d, base float64) string {
	if d == 0 {
		return "same"
	}
	digits := 0
	if math.Abs(d) < 10 {
		digits = 2
	}
	if base == 0 {
		return fmt.Sprintf("%+.*f", digits, d)
	}
	return fmt.Sprintf("%+.*f (%+.1f %%)", digits, d, 100*d/base)
}
