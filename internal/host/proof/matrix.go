package proof

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
)

// Proof is what is known of designs and bugs.
type Proof struct {
	Designs  []*Design
	Outcomes map[string]*Outcome // by the name of the job
	partial  bool                // not all were to be proven
}

// Merge puts together what shards have written to their directories.
func Merge(patches string, dirs []string) (*Proof, error) {
	designs, err := Read(patches)
	if err != nil {
		return nil, err
	}
	p := &Proof{Designs: designs, Outcomes: make(map[string]*Outcome)}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("merge: there are no outcomes in %s", dir)
		}
		for _, file := range files {
			if err := p.read(file); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func (p *Proof) read(file string) error {
	o, err := readOutcome(file)
	if err != nil {
		return err
	}
	if other := p.Outcomes[o.Name]; other != nil && other.Key != o.Key {
		return fmt.Errorf("%s: %s was proven twice, with different kernels or checks", file, o.Name)
	}
	p.Outcomes[o.Name] = o
	return nil
}

// Text is the matrix, and the sentence that sums it up.
func (p *Proof) Text() string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(tw, strings.Join(cells, "\t")) }
	head := []string{"DESIGN", "CONTRACT"}
	for _, promise := range contract.Promises() {
		head = append(head, string(promise))
	}
	row(append(head, "TAIL DROPS", "SECONDS")...)
	for _, d := range p.Designs {
		o := p.Outcomes[d.Name]
		if o == nil {
			continue
		}
		cells := []string{d.Name, string(d.Contract)}
		for _, promise := range contract.Promises() {
			cells = append(cells, string(o.Promises[promise]))
		}
		row(append(cells, fmt.Sprintf("%d of %d", o.TailDrops, o.Offered), fmt.Sprintf("%.0f", o.RunSeconds))...)
	}
	tw.Flush()
	bugs, caught, seconds := 0, 0, 0.0
	for _, d := range p.Designs {
		for _, bug := range d.Bugs {
			o := p.Outcomes[d.Name+"+"+bug.Name]
			if o == nil {
				continue
			}
			if bugs == 0 {
				b.WriteByte('\n')
				row("BUG", "ON", "BREAKS", "CAUGHT BY", "SECONDS", "REPLAY")
			}
			bugs++
			seconds += o.BuildSeconds + o.RunSeconds
			by := o.CaughtBy
			switch {
			case by == "":
				by = "SURVIVES"
			case o.Elsewhere:
				by += " (not by " + bug.Check + ")"
			}
			if o.CaughtBy != "" {
				caught++
			}
			row(bug.Name, d.Name, string(bug.Promise), by, fmt.Sprintf("%.0f+%.0f", o.BuildSeconds, o.DetectedSeconds), o.Replay)
		}
	}
	tw.Flush()
	if bugs > 0 {
		fmt.Fprintf(&b, "\n%d of %s caught, in %.0f s (seconds: to wait for the kernel + to catch the bug)\n", caught, contract.Count(bugs, "bug"), seconds)
	}
	b.WriteString(p.baselines())
	for _, wrong := range p.Wrong() {
		fmt.Fprintf(&b, "wrong: %s\n", wrong)
	}
	return b.String()
}

// Methods of TestBaseline, in the order in which they are shown.
var methods = []string{"stress", "random", "systematic"}

// baselines is how the ways to look for bugs compare; "" if that was not asked.
func (p *Proof) baselines() string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	took := make(map[string][]time.Duration) // of those that caught it
	died := make(map[string]int)             // and of those that the guest died of
	bugs := 0
	var limit time.Duration
	for _, d := range p.Designs {
		for _, bug := range d.Bugs {
			o := p.Outcomes[d.Name+"+"+bug.Name]
			if o == nil || len(o.Baselines)+len(o.Died) == 0 {
				continue
			}
			if bugs == 0 {
				fmt.Fprintln(tw, "\nBUG\tSTRESS\tRANDOM\tSYSTEMATIC")
			}
			bugs++
			cells := []string{bug.Name}
			for _, method := range methods {
				i := slices.IndexFunc(o.Baselines, func(b contract.Baseline) bool { return b.Method == method })
				switch {
				case slices.Contains(o.Died, method):
					died[method]++
					cells = append(cells, "guest died")
				case i < 0:
					cells = append(cells, "no answer")
				case o.Baselines[i].Promise == "":
					cells = append(cells, fmt.Sprintf("not in %d", o.Baselines[i].Tried))
				default:
					took[method] = append(took[method], o.Baselines[i].After)
					cells = append(cells, fmt.Sprintf("%.1f s", o.Baselines[i].After.Seconds()))
				}
				if i >= 0 {
					limit = o.Baselines[i].Limit
				}
			}
			fmt.Fprintln(tw, strings.Join(cells, "\t"))
		}
	}
	if bugs == 0 {
		return ""
	}
	for _, line := range []struct {
		name string
		of   func(method string) string
	}{
		{"caught", func(method string) string { return fmt.Sprintf("%d of %d", len(took[method])+died[method], bugs) }},
		{"median", func(method string) string {
			took := took[method]
			if len(took) == 0 {
				return "-"
			}
			slices.Sort(took)
			return fmt.Sprintf("%.1f s", took[len(took)/2].Seconds())
		}},
	} {
		cells := []string{line.name}
		for _, method := range methods {
			cells = append(cells, line.of(method))
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	tw.Flush()
	fmt.Fprintf(&b, "(Each way to look for a bug had %v, and ended with the first promise that it saw broken. A guest that died of the bug counts as caught. The median is of the other bugs that were caught. \"no answer\": that way could not be tried.)\n", limit)
	return b.String()
}

// Wrong is what is not as it should be, a line each; none is a proof.
func (p *Proof) Wrong() (wrong []string) {
	for _, d := range p.Designs {
		own := p.Outcomes[d.Name]
		if own == nil {
			if !p.partial {
				wrong = append(wrong, d.Name+": was not judged")
			}
		} else {
			wrong = append(wrong, d.wrong(own)...)
		}
		for _, b := range d.Bugs {
			o := p.Outcomes[d.Name+"+"+b.Name]
			switch {
			case o == nil:
				if !p.partial {
					wrong = append(wrong, b.Name+": was not tried")
				}
			case o.CaughtBy == "":
				wrong = append(wrong, b.Name+": survives")
			case o.Elsewhere:
				wrong = append(wrong, fmt.Sprintf("%s: caught by %s, and not by %s as its patch says", b.Name, o.CaughtBy, b.Check))
			case own != nil && slices.Contains(own.Tests[b.Promise], o.CaughtBy):
				wrong = append(wrong, fmt.Sprintf("%s: %s catches it, and fails without it, too", b.Name, o.CaughtBy))
			}
		}
	}
	return wrong
}

// wrong compares the outcome with what review made of the design.
func (d *Design) wrong(o *Outcome) (wrong []string) {
	for _, promise := range contract.Promises() {
		want := contract.Kept
		switch {
		case slices.Contains(d.Broken, promise):
			want = contract.Broken
		case slices.Contains(untried[d.Driver], promise):
			want = contract.NotRun
		}
		if got := o.Promises[promise]; got != want {
			wrong = append(wrong, fmt.Sprintf("%s: %s is %s, and should be %s", d.Name, promise, cmp.Or(got, "not tried"), want))
		}
	}
	for _, e := range o.Errors {
		wrong = append(wrong, d.Name+": "+e)
	}
	return wrong
}
