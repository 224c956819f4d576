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
// nothing" is a patch that no workload of Path may flag.
type Planted struct {
	Name, File string
	Subject    string
	Design     string
	// Backpressure: it is seen in devices that are opened so.
	Backpressure bool
	// Nothing: it costs nothing. Then there is no Unit.
	Nothing        bool
	Ruler          Ruler
	Workload, Unit string
}

// Workloads are those to run, as go test's -run has it.
func (p Planted) Workloads() string {
	test, _, _ := strings.Cut(p.Workload, "/")
	return "^Test" + test + "$"
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
				p.Nothing, p.Ruler, p.Workload = true, Instructions, "Path/"
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

// Verdict is what came of a planted patch.
type Verdict string

const (
	AsItShouldBe Verdict = "yes"
	NotSeen      Verdict = "NO"
	// NotTried: its ruler is left out.
	NotTried Verdict = "not tried"
	// NotKnown: time tells it, and needs KVM for that; or boots failed.
	NotKnown Verdict = "not known"
)

// Seen says what exceeded its limit of a planted patch, in a line for each unit, and
// whether that is as it should be.
func (p Planted) Seen(r *Result) (by []string, v Verdict) {
	var exceeded []Row
	named, kept := false, false
	for _, row := range r.Rows() {
		if row.Variant != p.Name && row.Variant != p.Name+"+flag" {
			continue
		}
		kept = kept || row.Outcome == contract.Kept
		if row.Outcome != contract.Broken {
			continue
		}
		exceeded = append(exceeded, row)
		named = named || row.Ruler == p.Ruler && row.Workload == p.Workload && row.Unit == p.Unit &&
			(row.Variant != p.Name) == p.Backpressure
	}
	for _, g := range grouped(exceeded) {
		w := g.worst()
		times := fmt.Sprintf("%.3f times the", w.Ratio)
		if w.Base.Center == 0 {
			times = fmt.Sprintf("%.3g instead of no", w.Value.Center)
		}
		says := fmt.Sprintf("%s, %s: %s %s in %s", w.Ruler, g.variant, times, g.unit, cost.Short(w.Workload))
		if n := len(g.rows) - 1; n > 0 {
			says += fmt.Sprintf(", and %d more", n)
		}
		by = append(by, says)
	}
	failed := slices.ContainsFunc(r.Boots, func(o Outcome) bool { return o.Failed != "" })
	switch {
	case p.Nothing && len(by) > 0:
		return by, NotSeen
	case p.Nothing && kept && !failed, named:
		return by, AsItShouldBe
	case p.Nothing || failed || p.Ruler == Time && r.Translated():
		return by, NotKnown
	}
	return by, NotSeen
}
