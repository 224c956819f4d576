package report

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestFigures: the tables have the numbers, and what is not there is said.
func TestFigures(t *testing.T) {
	figures := measured("stock", "mine").figures()
	want := []struct {
		title string
		head  string
		rows  int
		row   string
		how   string
	}{
		{"TCP throughput by number of streams", "streams|stock, Mbit/s|mine, Mbit/s|mine+flag, Mbit/s", 3, "4|4 (3.92 – 4.12)|4.04 (3.96 – 4.16)|failed", "mine+flag with 4 streams: failed."},
		{"Latency under load, by qdisc", "qdisc|variant|p50, ms|p99, ms|worst, ms|lost", 6, "pfifo_fast/txqlen=500|mine|0.101 (0.099 – 0.104)|20.2 (19.8 – 20.8)|30.3 (29.7 – 31.2)|10 %", "logarithmic"},
		{"Packets of pktgen, received and lost", "workload|variant|offered/s|received/s|lost/s", 6, "threads=2/txqs=1/tap/start_xmit|mine|40k (39.2k – 41.2k)|20k (19.6k – 20.6k)|20k (19.6k – 20.6k)", ""},
		{"Instructions per packet: difference to the base", "workload|variant|base, instr/pkt|instr/pkt|difference", 4, "tap/pfifo_fast/free|mine+flag|1000 (980 – 1030)|1020 (1000 – 1051)|+20 (+2.0 %)", "cut"},
		{"Locked instructions per packet: difference to the base", "workload|variant|base, locked/pkt|locked/pkt|difference", 4, "tap/fq_codel/full|mine|16 (15.7 – 16.5)|17 (16.7 – 17.5)|+1.00 (+6.2 %)", ""},
	}
	if len(figures) != len(want) {
		t.Fatalf("%d figures, want %d", len(figures), len(want))
	}
	for i, f := range figures {
		w := want[i]
		var rows []string
		for _, r := range f.Rows {
			rows = append(rows, strings.Join(r, "|"))
			if len(r) != len(f.Head) {
				t.Errorf("%s: %d cells under %d heads: %q", f.Title, len(r), len(f.Head), r)
			}
		}
		if f.Title != w.title || strings.Join(f.Head, "|") != w.head || len(rows) != w.rows || !slices.Contains(rows, w.row) || !strings.Contains(f.How, w.how) {
			t.Errorf("%s, %s\n%q\n%s\nwant %+v", f.Title, f.How, f.Head, strings.Join(rows, "\n"), w)
		}
		for _, is := range []string{"#0000", "font-family", "xmlns", "NaN", "Inf"} {
			if strings.Contains(string(f.SVG), is) {
				t.Errorf("%s: the drawing has %q", f.Title, is)
			}
		}
		if len(f.Legend) == 0 || !strings.HasSuffix(strings.TrimSpace(string(f.SVG)), "</svg>") {
			t.Errorf("%s: %s", f.Title, f.SVG)
		}
	}
	for name, m := range map[string]*Measured{"nothing": nil, "no variant": {}, "no value": {Variants: []Variant{{Name: "stock"}}}} {
		if n := len(m.figures()); n > 0 {
			t.Errorf("%s: %d figures", name, n)
		}
	}
	alone := measured("stock", "mine")
	alone.Variants = alone.Variants[:1]
	if n := len(alone.figures()); n != 3 {
		t.Errorf("a base alone has %d figures", n)
	}
}

// TestBarsAreAsLong as what they stand for.
func TestBarsAreAsLong(t *testing.T) {
	svg := string(measured("stock", "mine").pktgen().SVG)
	var received, lost []float64
	for _, path := range regexp.MustCompile(`(?s)<path d="M([\d.]+),[\d.]+L([\d.]+),[^"]*Z"\s*style="fill:var\((--\w+)\)`).FindAllStringSubmatch(svg, -1) {
		from, _ := strconv.ParseFloat(path[1], 64)
		to, _ := strconv.ParseFloat(path[2], 64)
		if path[3] == "--kept" {
			received = append(received, to-from)
		} else {
			lost = append(lost, to-from)
		}
	}
	if len(received) != 6 || len(lost) != 6 {
		t.Fatalf("%v and %v in\n%s", received, lost, svg)
	}
	for i := range received {
		nth := float64(i%3 + 1) // of four in all
		if unit := received[0]; received[i] < unit*nth-0.1 || received[i] > unit*nth+0.1 || lost[i] < unit*(4-nth)-0.1 || lost[i] > unit*(4-nth)+0.1 {
			t.Errorf("received %v, lost %v", received, lost)
		}
	}
}

// TestManyCombinations are not all drawn, and the page says so.
func TestManyCombinations(t *testing.T) {
	m := &Measured{Variants: []Variant{{Name: "stock"}, {Name: "mine", Base: "stock"}}}
	for _, v := range m.Variants {
		for i := range 60 {
			for n := range 2 {
				m.Values = append(m.Values, Value{Variant: v.Name, Workload: fmt.Sprintf("TCP/via=tap/streams=%d/txqlen=%d", n+1, i), Ruler: "time", Unit: "bit/s", Center: 1, N: 1})
			}
			for _, unit := range []string{"rx-pps", "lost-pps"} {
				m.Values = append(m.Values, Value{Variant: v.Name, Workload: fmt.Sprintf("Pktgen/threads=%d", i), Ruler: "time", Unit: unit, Center: 1, N: 1})
			}
		}
	}
	figures := m.figures()
	if len(figures) != mostTCP+1 {
		t.Fatalf("%d figures", len(figures))
	}
	if how := figures[mostTCP-1].How; !strings.Contains(how, "56 more are in the tables") {
		t.Error(how)
	}
	drawn := len(figures[mostTCP].Rows) / len(m.Variants)
	if how := figures[mostTCP].How; drawn == 60 || !strings.Contains(how, fmt.Sprintf("%d more are in the tables", 60-drawn)) {
		t.Errorf("%d drawn: %s", drawn, how)
	}
}

// TestLongNames are cut so that the patches of a series are told apart.
func TestLongNames(t *testing.T) {
	r := newRows("x")
	for _, name := range []string{"the-first-patch-of-the-series", "the-second-patch-of-the-series", "the-first-patch-of-the-series+flag", "stock"} {
		r.row(name)
	}
	for i, want := range []string{"the-fir…e-series", "the-sec…e-series", "the-fir…ies+flag", "stock"} {
		if got := r.names[i].Label; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
