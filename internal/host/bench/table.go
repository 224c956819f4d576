package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/host/report"
)

// width is that of a line of a commit message
// (Documentation/process/submitting-patches.rst).
const width = 72

// A table has the base in its first column, and most others beside it at most.
const (
	nameWidth = 24
	most      = 3
)

// Text is all of it as plain ASCII: what was run, the tables, the verdicts.
func (r *Result) Text() string {
	var b strings.Builder
	r.heading(&b)
	b.WriteString(r.Tables())
	r.verdicts(&b)
	r.limits(&b)
	return b.String()
}

// Tables is what was measured.
func (r *Result) Tables() string {
	var b strings.Builder
	for _, part := range r.columns() {
		r.pktgen(&b, part)
		r.table(&b, part, "TCP, payload in Mbit/s", Time, "TCP/", "bit/s", 1e-6)
		r.table(&b, part, "Latency under load, p99 in us", Time, "Latency/", "p99-us", 1)
		r.table(&b, part, "Latency under load, p50 in us", Time, "Latency/", "p50-us", 1)
		r.table(&b, part, "Latency under load, worst in us", Time, "Latency/", "max-us", 1)
		r.table(&b, part, "Latency under load, share lost", Time, "Latency/", "lost", 1)
		r.table(&b, part, "Multicast, many senders, ms until all is delivered", Time, "Multicast/", "ms", 1)
		r.table(&b, part, "Instructions per packet received", Instructions, "Path/", "instr/pkt", 1)
		r.table(&b, part, "Of these, locked", Instructions, "Path/", "locked/pkt", 1)
		r.table(&b, part, "Instructions per packet, pktgen", Instructions, "Pktgen/", "instr/pkt", 1)
		r.table(&b, part, "Instructions per KiB of TCP", Instructions, "TCP/", "instr/KiB", 1)
		for _, unit := range []struct{ unit, says string }{
			{"stops/pkt", "Stops (and wakes) of the txq per packet"}, {"dry/wake", "Wakes that find the ring empty, share"},
			{"nettx/pkt", "NET_TX softirqs per packet"}, {"requeues/pkt", "Requeues per packet"}, {"switches/pkt", "Context switches per packet"},
		} {
			r.table(&b, part, unit.says, Instructions, "", unit.unit, 1)
		}
	}
	return b.String()
}

func (r *Result) heading(b *strings.Builder) {
	for _, v := range r.Variants {
		if v.Backpressure {
			continue
		}
		release := ""
		for _, o := range r.Boots {
			if o.Variant == v.String() && o.Release != "" {
				release = o.Release + " " + o.Preemption
			}
		}
		fmt.Fprintf(b, "%-14s %s\n", v.Label, release)
	}
	accel := ""
	for _, o := range r.Boots {
		if o.Ruler == Time {
			accel = o.Accel
		}
	}
	if accel != "" {
		accelerator, why, _ := strings.Cut(accel, ": ")
		why, _, _ = strings.Cut(why, ": ") // the rest is in the boots' directories
		fmt.Fprintf(b, "%-14s %s: %s\n", "run by", accelerator, why)
	}
	if r.Interrupted {
		b.WriteString("\nThis is not all: it was interrupted. The same command goes on.\n")
	}
}

// columns are the variants in parts that fit a line, each with the base first.
func (r *Result) columns() (parts [][]Variant) {
	others := r.Variants[1:]
	for len(others) > 0 {
		n := min(most, len(others))
		parts = append(parts, append([]Variant{r.Variants[0]}, others[:n]...))
		others = others[n:]
	}
	if parts == nil {
		parts = [][]Variant{r.Variants}
	}
	return parts
}

func cellWidth(columns int) int { return (width - nameWidth) / columns }

// line writes a row of a table.
func line(b *strings.Builder, name string, cells []string) {
	text := fmt.Sprintf("%-*.*s", nameWidth, nameWidth, name)
	for _, c := range cells {
		text += fmt.Sprintf("%*s", cellWidth(len(cells)), c)
	}
	b.WriteString(strings.TrimRight(text, " ") + "\n")
}

// heads are the names of the columns, in one line or two.
func heads(part []Variant) (lines [][]string) {
	var labels, flags []string
	two := false
	for _, v := range part {
		label, flag := v.Label, ""
		if v.OptIn {
			two, flag = true, "no flag"
		}
		if v.Backpressure {
			flag = "with flag"
		}
		if w := cellWidth(len(part)) - 1; len(label) > w {
			label = label[len(label)-w:]
		}
		labels, flags = append(labels, label), append(flags, flag)
	}
	if lines = [][]string{labels}; two {
		lines = append(lines, flags)
	}
	return lines
}

// head writes the names of the columns, with a title if it fits beside them.
func head(b *strings.Builder, title string, part []Variant) {
	if len(title) > nameWidth-1 {
		b.WriteString(title + "\n")
		title = ""
	}
	for _, names := range heads(part) {
		line(b, title, names)
		title = ""
	}
}

// table shows one unit of the workloads that begin with prefix, if there are any.
func (r *Result) table(b *strings.Builder, part []Variant, title string, ruler Ruler, prefix, unit string, scale float64) {
	order, all := r.beside(part, ruler, prefix)
	var rows []string
	for _, workload := range order {
		var cells []string
		tells := false // something other than zeros
		for i := range part {
			s := all[i][workload]
			if s == nil || len(s.values[unit]) == 0 {
				tells = tells || s != nil && len(s.failed) > 0
				cells = append(cells, s.without())
				continue
			}
			tells = tells || slices.ContainsFunc(s.values[unit], func(x float64) bool { return x != 0 })
			x := intervalOf(ruler, s.values[unit])
			text := number(x, scale)
			if strings.HasPrefix(unit, "instr/") && i > 0 && all[0][workload] != nil {
				text = difference(x, all[0][workload].values[unit], text)
			}
			cells = append(cells, text)
		}
		if !tells {
			continue
		}
		name := cost.Short(strings.TrimPrefix(workload, prefix))
		if len(name) > nameWidth-3 {
			rows = append(rows, "  "+name)
			name = ""
		}
		var row strings.Builder
		line(&row, "  "+name, cells)
		rows = append(rows, strings.TrimRight(row.String(), "\n"))
	}
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n")
	head(b, title, part)
	b.WriteString(strings.Join(rows, "\n") + "\n")
}

// without is what stands where there is no value.
func (s *series) without() string {
	switch {
	case s != nil && len(s.failed) > 0:
		return "failed"
	case s != nil && s.missing != "":
		return "not run"
	}
	return "-"
}

// difference is by how much the middle differs from the base's, of instructions and
// what else there is of a packet.
func difference(x Interval, base []float64, otherwise string) string {
	if len(base) == 0 {
		return otherwise
	}
	from := intervalOf(Instructions, base).Center
	d := x.Center - from
	switch {
	case from == 0:
		return otherwise
	case d == 0:
		return "same"
	case math.Abs(d) > from/4: // another kind of thing happens
		return otherwise
	}
	return fmt.Sprintf("%+.*f %+.1f%%", digits(d), d, 100*d/from)
}

// digits behind the point of a difference.
func digits(d float64) int {
	if math.Abs(d) < 1 {
		return 2
	}
	return 0
}

// number is the middle of some values, and by how much they differ.
func number(x Interval, scale float64) string {
	text := short(x.Center * scale)
	wide := max(x.Hi-x.Center, x.Center-x.Lo)
	if x.Center == 0 || math.IsInf(wide, 0) || math.IsNaN(wide) {
		return text
	}
	// More than a few times the middle says no more than that nothing is known of it.
	if percent := 100 * wide / math.Abs(x.Center); percent >= 0.5 && percent < 1000 {
		text += fmt.Sprintf(" %.0f%%", percent)
	}
	return text
}

// short is a number in few characters.
func short(x float64) string {
	switch a := math.Abs(x); {
	case x == 0:
		return "0"
	case a < 0.01:
		return fmt.Sprintf("%.1g", x)
	case a < 10:
		return fmt.Sprintf("%.3g", x)
	case a < 1000:
		return fmt.Sprintf("%.1f", x)
	case a < 1e6:
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.3gM", x/1e6)
}

// pktgen is the table of the packets, with the identity that ties its lines.
func (r *Result) pktgen(b *strings.Builder, part []Variant) {
	order, all := r.beside(part, Time, "Pktgen/")
	if len(order) == 0 {
		return
	}
	b.WriteString("\nPackets per second, pktgen: the run with the median of Received\n")
	for _, workload := range order {
		b.WriteString("\n")
		head(b, cost.Short(strings.TrimPrefix(workload, "Pktgen/")), part)
		for _, row := range []struct{ name, unit string }{
			{"  Offered", "offered-pps"}, {"  Transmitted", "tx-pps"}, {"  Lost", "lost-pps"}, {"  Received", "rx-pps"},
		} {
			var cells []string
			for i := range part {
				s := all[i][workload]
				if s == nil || len(s.values[row.unit]) == 0 {
					cells = append(cells, s.without())
					continue
				}
				value := s.values[row.unit][middle(s.values["rx-pps"])]
				if row.unit != "rx-pps" {
					cells = append(cells, short(value))
					continue
				}
				x := intervalOf(Time, s.values[row.unit])
				x.Center = value
				cells = append(cells, number(x, 1))
			}
			line(b, row.name, cells)
		}
		var cells []string
		for _, v := range part {
			held, asked := r.balanced(v, workload)
			cells = append(cells, fmt.Sprintf("%d of %d", held, asked))
		}
		line(b, "  Books balance", cells)
	}
	b.WriteString("\nOffered = Transmitted + Lost, and Transmitted = Received + what was\nleft in ring and qdisc, in each run whose books balance.\n")
}

// middle is the index of the value in the middle: of two, the lower one.
func middle(values []float64) int {
	sorted := slices.Sorted(slices.Values(values))
	return slices.Index(values, sorted[(len(sorted)-1)/2])
}

// balanced says in how many rounds the books of a workload held.
func (r *Result) balanced(v Variant, workload string) (held, asked int) {
	for _, o := range r.Boots {
		if o.Variant != v.String() || o.Ruler != Time {
			continue
		}
		for _, s := range o.Samples {
			if s.Workload == workload && s.Books != nil {
				asked++
				if s.Books.Balance() == nil {
					held++
				}
			}
		}
	}
	return held, asked
}

// verdicts shows what is not kept, and counts the rest.
func (r *Result) verdicts(b *strings.Builder) {
	rows := r.Rows()
	b.WriteString("\ncost\n")
	for _, v := range r.Variants[1:] {
		of := make(map[contract.Outcome]int)
		for _, row := range rows {
			if row.Variant == v.String() {
				of[row.Outcome]++
			}
		}
		fmt.Fprintf(b, "  %s", v)
		sep := ":"
		for _, o := range []contract.Outcome{contract.Kept, contract.Broken, contract.Undecided, contract.NotRun} {
			fmt.Fprintf(b, "%s %d %s", sep, of[o], o)
			sep = ","
		}
		b.WriteString("\n")
	}
	for _, g := range grouped(rows) {
		b.WriteString("\n" + report.Fill("", "", g.String(), width))
		if says := r.mostly(g.worst()); says != "" {
			b.WriteString(report.Fill("", "  ", says, width))
		}
	}
	if says := r.nulls(); says != "" {
		b.WriteString("\n" + report.Fill("", "", says, width))
	}
	for _, f := range r.Findings() {
		b.WriteString("\n" + report.Fill("", "", f, width))
	}
}

// limits says what these figures cannot say.
func (r *Result) limits(b *strings.Builder) {
	for _, says := range r.cannotSay() {
		b.WriteString("\n" + report.Fill("", "", says, width))
	}
}

// group is what is not kept of one unit in one variant, for the same kind of reason.
type group struct {
	variant, unit string
	outcome       contract.Outcome
	rows          []Row
}

// grouped puts the rows together that are not kept.
func grouped(rows []Row) (groups []*group) {
	for _, row := range rows {
		if row.Outcome == "" || row.Outcome == contract.Kept {
			continue
		}
		i := slices.IndexFunc(groups, func(g *group) bool {
			return g.variant == row.Variant && g.unit == row.Unit && g.outcome == row.Outcome
		})
		if i < 0 {
			groups = append(groups, &group{variant: row.Variant, unit: row.Unit, outcome: row.Outcome})
			i = len(groups) - 1
		}
		groups[i].rows = append(groups[i].rows, row)
	}
	return groups
}

// worst is the row that is farthest from its limit.
func (g *group) worst() Row {
	worst := g.rows[0]
	for _, row := range g.rows {
		if math.Abs(row.Ratio-row.Limit) > math.Abs(worst.Ratio-worst.Limit) {
			worst = row
		}
	}
	return worst
}

// String says it of the worst row, and names the others.
func (g *group) String() string {
	worst := g.worst()
	text := fmt.Sprintf("%s: %s, %s in %s: %s", g.outcome, g.variant, g.unit, cost.Short(worst.Workload), worst.Why)
	var also []string
	for _, row := range g.rows {
		if row.Workload != worst.Workload {
			also = append(also, cost.Short(row.Workload))
		}
	}
	if len(also) > 0 {
		text += "; also in " + strings.Join(also, ", ")
	}
	return text
}

// nulls says by how much the base differs from itself.
func (r *Result) nulls() string {
	var said []string
	for _, ruler := range r.Config.Rulers {
		largest, of := 0.0, ""
		for key, d := range r.null(ruler, r.Variants[0]) {
			workload, unit, _ := strings.Cut(key, " ")
			if limitOf(ruler, workload, unit) != nil && d > largest {
				largest, of = d, unit+" in "+cost.Short(workload)
			}
		}
		boots := 0
		for _, o := range r.Boots {
			if o.Ruler == ruler && o.Variant == r.Variants[0].String() {
				boots++
			}
		}
		switch {
		case boots < 2:
		case of == "":
			said = append(said, fmt.Sprintf("by the ruler of %s no figure differs", ruler))
		default:
			said = append(said, fmt.Sprintf("by the ruler of %s figures differ by up to %.2g %% (%s)", ruler, 100*largest, of))
		}
	}
	if said == nil {
		return ""
	}
	return fmt.Sprintf("The null, %s against itself: %s.", r.Variants[0], strings.Join(said, "; "))
}
