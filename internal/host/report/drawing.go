package report

import (
	"bytes"
	"fmt"
	"html/template"
	"math"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A plot is as wide as a phone, in the units of its view box, so that its letters can
// be read on one.
const (
	plotWidth    = 360
	plotRow      = 15 // height of a row of letters
	plotName     = 16 // letters of a variant's name at most
	plotLineHigh = 220
)

// ink is a colour that the page's style sheet chooses, for a light page and a dark one.
type ink int

// inks are what each ink is in a style. The first is black, which gonum.org/v1/plot
// takes where nothing else is said.
var inks = []string{"var(--fg)", "var(--soft)", "var(--line)", "var(--kept)", "var(--broken)", "var(--p1)", "var(--p2)", "var(--p3)", "var(--p4)"}

const (
	inkText ink = iota
	inkSoft
	inkLine
	inkKept
	inkBroken
	inkFirst // of the variants beside the base
)

// RGBA makes it a color.Color that no other ink is. The half keeps vgsvg from rounding
// it down to the one before.
func (i ink) RGBA() (r, g, b, a uint32) { return 0, 0, uint32(i)*0x101 + 0x80, 0xffff }

// class is the style sheet's class of letters in it.
func (i ink) class() string { return fmt.Sprintf("ink-%d", int(i)) }

// mark is how the points of a variant, or of a percentile, are drawn.
type mark struct {
	Letter string
	glyph  draw.GlyphDrawer
}

var marks = []mark{
	{"●", draw.CircleGlyph{}}, {"■", draw.BoxGlyph{}}, {"▲", draw.PyramidGlyph{}},
	{"○", draw.RingGlyph{}}, {"□", draw.SquareGlyph{}}, {"△", draw.TriangleGlyph{}},
}

func style(i ink, x text.XAlignment, y text.YAlignment) text.Style {
	return text.Style{Color: i, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: 11}, XAlign: x, YAlign: y, Handler: plot.DefaultTextHandler}
}

func stroke(i ink, width vg.Length) draw.LineStyle { return draw.LineStyle{Color: i, Width: width} }

// newPlot is an empty one whose values are read off the lines behind them.
func newPlot(x, y string, grid *plotter.Grid) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle = style(inkSoft, draw.XCenter, draw.YBottom)
		axis.Label.Padding = 3
		axis.LineStyle = stroke(inkLine, 1)
		axis.Tick.LineStyle = stroke(inkLine, 1)
		axis.Tick.Length = 4
		axis.Padding = 0
	}
	p.X.Tick.Label = style(inkText, draw.XCenter, draw.YTop)
	p.Y.Tick.Label = style(inkText, draw.XRight, draw.YCenter)
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.Add(grid)
	return p
}

// amounts are ticks with short numbers.
type amounts struct{}

func (amounts) Ticks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range ticks {
		if !t.IsMinor() {
			ticks[i].Label = amount(t.Value)
		}
	}
	return ticks
}

// amount is a number in few letters.
func amount(x float64) string {
	switch a := math.Abs(x); {
	case a >= 1e9:
		return fmt.Sprintf("%.4gG", x/1e9)
	case a >= 1e6:
		return fmt.Sprintf("%.4gM", x/1e6)
	case a >= 1e4:
		return fmt.Sprintf("%.4gk", x/1e3)
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

// drawn is the plot as a part of a page. The letters are the page's.
func drawn(p *plot.Plot, height float64, says string) template.HTML {
	canvas := vgsvg.New(plotWidth, vg.Length(height))
	// The page's letters may be a little wider than those that were measured.
	p.Draw(draw.Crop(draw.New(canvas), 0, -8, 0, 0))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		panic(err) // a Buffer takes all
	}
	_, body, _ := strings.Cut(b.String(), "<g ")
	var replace []string
	for i, css := range inks {
		replace = append(replace, fmt.Sprintf("#%06X", i), css)
	}
	replace = append(replace, "font-family:Liberation Sans;font-variant:normal;", "", "font-weight:normal;font-style:normal;", "")
	return template.HTML(fmt.Sprintf(`<svg class="plot" viewBox="0 0 %d %.0f" role="img" aria-label="%s"><g %s`, plotWidth, height,
		template.HTMLEscapeString(says), strings.NewReplacer(replace...).Replace(body)))
}

// rows is a plot of rows, some of which are headings.
type rows struct {
	*plot.Plot
	n        float64 // how many are above
	names    []plot.Tick
	headings []plot.Tick
}

func newRows(x string) *rows {
	r := &rows{Plot: newPlot(x, "", &plotter.Grid{Vertical: stroke(inkLine, 0.5)})}
	r.Y.LineStyle.Width, r.Y.Tick.Length, r.Y.Tick.LineStyle.Width = 0, 0, 0
	r.Y.Padding = 6
	r.X.Tick.Marker = amounts{}
	return r
}

// heading adds one, of the rows that follow.
func (r *rows) heading(says string) {
	if r.n > 0 {
		r.n += 0.5
	}
	r.headings = append(r.headings, plot.Tick{Value: -r.n, Label: says})
	r.n++
}

// row adds one, and returns how high it is. Of a long name it has both ends: patches of
// a series often differ in one of them, and a flag is at the other.
func (r *rows) row(name string) (y float64) {
	if letters := []rune(name); len(letters) > plotName {
		const tail = plotName / 2
		name = string(letters[:plotName-1-tail]) + "…" + string(letters[len(letters)-tail:])
	}
	y = -r.n
	r.names = append(r.names, plot.Tick{Value: y, Label: name})
	r.n++
	return y
}

// bar adds one from a value to another.
func (r *rows) bar(y, from, to float64, i ink) {
	const half = 0.32
	r.Add(&plotter.Polygon{XYs: []plotter.XYs{{{X: from, Y: y - half}, {X: to, Y: y - half}, {X: to, Y: y + half}, {X: from, Y: y + half}}}, Color: i})
}

// between adds a line from a value to another, with ends if it is an interval.
func (r *rows) between(y, from, to float64, i ink, ends vg.Length) {
	middle := (from + to) / 2
	bars := &plotter.XErrorBars{XYs: plotter.XYs{{X: middle, Y: y}}, LineStyle: stroke(i, 1.2), CapWidth: ends}
	bars.XErrors = make(plotter.XErrors, 1)
	bars.XErrors[0].Low, bars.XErrors[0].High = from-middle, to-middle
	r.Add(bars)
}

// point adds one.
func (r *rows) point(y, x float64, i ink, m mark) {
	r.Add(&plotter.Scatter{XYs: plotter.XYs{{X: x, Y: y}}, GlyphStyle: draw.GlyphStyle{Color: i, Radius: 3, Shape: m.glyph}})
}

// says adds words to the right of a value.
func (r *rows) says(y, x float64, words string) {
	r.Add(&plotter.Labels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{words}, TextStyle: []text.Style{style(inkSoft, draw.XLeft, draw.YCenter)}, Offset: vg.Point{X: 5, Y: 2}})
}

// writeHeadings writes them from the left edge on, where the names of rows are below.
func (r *rows) writeHeadings(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	bold := style(inkText, draw.XLeft, draw.YCenter)
	bold.Font.Weight = xfont.WeightBold
	for _, h := range r.headings {
		c.FillText(bold, vg.Point{X: 0, Y: y(h.Value)}, h.Label)
	}
}

type plotterFunc func(draw.Canvas, *plot.Plot)

func (f plotterFunc) Plot(c draw.Canvas, p *plot.Plot) { f(c, p) }

func (r *rows) drawn(says string) template.HTML {
	r.Y.Tick.Marker = plot.ConstantTicks(r.names)
	r.Y.Min, r.Y.Max = 0.5-r.n, 0.5
	r.Add(plotterFunc(r.writeHeadings))
	return drawn(r.Plot, r.n*plotRow+40, says)
}
