package bench

import (
	"errors"
	"fmt"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
)

// Planted is a patch under patches/slow, on top of a design, that costs something. Its
// mail says what must see it:
//
//	Design: opt-in-2+flag
//	Costs: instructions Path/via=tap/qdisc=fq_codel/full instr/pkt
//
// "+flag" is with IFF_BACKPRESSURE; without, devices are opened without it. "Costs:
// nothing" is a patch that must never be flagged.
type Planted struct {
	Name, File string
	Subject    string
	Design     string
	// Backpressure: it is seen in devices that are opened so.
	Backpressure bool
	// Nothing: it costs nothing.
	Nothing        bool
	Ruler          Ruler
	Workload, Unit string
}

// ReadPlanted returns those in dir.
func ReadPlanted(dir string) (all []Planted, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no slow patches: %s has no *.patch", dir)
	}
	for _, file := range files {
		p, err := readPlanted(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, p)
	}
	return all, nil
}

func readPlanted(file string) (Planted, error) {
	p := Planted{Name: strings.TrimSuffix(filepath.Base(file), ".patch"), File: file}
	text, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	_, rest, _ := strings.Cut(string(text), "\n") // the line of an mbox
	m, err := mail.ReadMessage(strings.NewReader(rest))
	if err != nil {
		return p, err
	}
	p.Subject = strings.TrimPrefix(m.Header.Get("Subject"), "[PATCH] ")
	head, _, _ := strings.Cut(rest, "\n---\n")
	for line := range strings.Lines(head) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Design":
			p.Design, p.Backpressure = strings.CutSuffix(value, "+flag")
		case "Costs":
			words := strings.Fields(value)
			switch {
			case value == "nothing":
				p.Nothing = true
			case len(words) == 3 && limitOf(Ruler(words[0]), words[1], words[2]) != nil:
				p.Ruler, p.Workload, p.Unit = Ruler(words[0]), words[1], words[2]
			default:
				return p, fmt.Errorf("%q is no ruler, workload and unit that a limit is for", value)
			}
		}
	}
	if p.Design == "" || !p.Nothing && p.Unit == "" {
		return p, errors.New("it lacks Design: or Costs:")
	}
	return p, nil
}

// Seen says what flagged a planted patch, and whether that is as it should be.
func (p Planted) Seen(r *Result) (by []Row, right bool) {
	named := false
	for _, row := range r.Rows() {
		if row.Outcome != contract.Broken || !strings.HasPrefix(row.Variant, p.Name) {
			continue
		}
		by = append(by, row)
		named = named || row.Ruler == p.Ruler && row.Workload == p.Workload && row.Unit == p.Unit &&
			strings.HasSuffix(row.Variant, "+flag") == p.Backpressure
	}
	if p.Nothing {
		return by, len(by) == 0
	}
	return by, named
}

// Exceeded says what rows exceed their limits, a line for each variant, ruler and unit:
// how many, and which by most.
func Exceeded(rows []Row) (lines []string) {
	var groups []*group
	for _, row := range rows {
		i := slices.IndexFunc(groups, func(g *group) bool {
			return g.variant == row.Variant && g.unit == row.Unit && g.rows[0].Ruler == row.Ruler
		})
		if i < 0 {
			groups = append(groups, &group{variant: row.Variant, unit: row.Unit})
			i = len(groups) - 1
		}
		groups[i].rows = append(groups[i].rows, row)
	}
	for _, g := range groups {
		w := g.worst()
		says := fmt.Sprintf("%s, %s: %.3f times the %s in %s", w.Ruler, g.variant, w.Ratio, g.unit, cost.Short(w.Workload))
		if n := len(g.rows) - 1; n > 0 {
			says += fmt.Sprintf(", and %d more", n)
		}
		lines = append(lines, says)
	}
	if lines == nil {
		return []string{"nothing"}
	}
	return lines
}
