package profile

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Side is one of two that are compared.
type Side struct {
	Name    string // "stock"
	Profile *Profile
	// Unit is "instr/pkt" where Per is the number of packets received meanwhile.
	Unit string
	Per  float64
}

// contexts are the values of Line.Where.
var contexts = []string{"producer", "consumer", "softirq", "interrupt", "fault", "idle", "other"}

// Row is so many instructions for each packet received, or KiB, of the base and of the other.
type Row struct {
	// Where is as in Line, and Function, too; or that is "".
	Where, Function      string
	Instructions, Locked [2]float64
}

// Diff is how many more the other executes.
func (r Row) Diff() float64 { return r.Instructions[1] - r.Instructions[0] }

// LockedDiff is how many more of them are locked.
func (r Row) LockedDiff() float64 { return r.Locked[1] - r.Locked[0] }

// Of a function, a difference is told from so many instructions for each packet on, or
// so many locked ones.
const differs, differsLocked = 0.05, 0.005

// Differs says whether there is a difference to tell.
func (r Row) Differs() bool {
	return math.Abs(r.Diff()) >= differs || math.Abs(r.LockedDiff()) >= differsLocked
}

// String is at most 72 characters long.
func (r Row) String() string {
	locked := ""
	if math.Abs(r.LockedDiff()) >= differsLocked {
		locked = fmt.Sprintf("%+.2f", r.LockedDiff())
	}
	s := fmt.Sprintf("%-10s %-25.25s %9.1f %9.1f %+8.1f %6s", r.Where, r.Function, r.Instructions[0], r.Instructions[1], r.Diff(), locked)
	return strings.TrimRight(s, " ")
}

// Comparison is where the instructions of a packet go on two sides.
type Comparison struct {
	Names [2]string
	Unit  string // what the instructions are for: "pkt"
	// Contexts has a row for each value of Line.Where, and All is their sum.
	Contexts []Row
	All      Row
	// Different are the functions that differ, those first that differ most; Same
	// are the others, those first that cost most.
	Different, Same []Row
}

// Compare compares two profiles of one workload. An error says that one side has
// received nothing.
func Compare(base, other Side) (*Comparison, error) {
	c := Comparison{Names: [2]string{base.Name, other.Name}, All: Row{Where: "all"}}
	_, c.Unit, _ = strings.Cut(base.Unit, "/")
	for _, context := range contexts {
		c.Contexts = append(c.Contexts, Row{Where: context})
	}
	functions := make(map[[2]string]*Row)
	for i, side := range []Side{base, other} {
		if side.Per == 0 {
			return nil, fmt.Errorf("%s has received nothing", side.Name)
		}
		for _, line := range side.Profile.Lines {
			at := [2]string{line.Where, line.Function}
			if functions[at] == nil {
				functions[at] = &Row{Where: line.Where, Function: line.Function}
			}
			for _, r := range []*Row{&c.All, &c.Contexts[slices.Index(contexts, line.Where)], functions[at]} {
				r.Instructions[i] += float64(line.Instructions) / side.Per
				r.Locked[i] += float64(line.Locked) / side.Per
			}
		}
	}
	for _, r := range functions {
		if r.Differs() {
			c.Different = append(c.Different, *r)
		} else {
			c.Same = append(c.Same, *r)
		}
	}
	order := func(rows []Row, by func(Row) float64) {
		slices.SortFunc(rows, func(a, b Row) int {
			return cmp.Or(cmp.Compare(by(b), by(a)), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Function, b.Function))
		})
	}
	order(c.Different, func(r Row) float64 { return math.Abs(r.Diff()) })
	order(c.Same, func(r Row) float64 { return r.Instructions[0] })
	return &c, nil
}

// String is a table of at most 72 columns.
func (c *Comparison) String() string {
	var b strings.Builder
	names := c.Names
	for i, name := range names { // the end of one tells more
		names[i] = name[max(0, len(name)-9):]
	}
	fmt.Fprintf(&b, "%-36s %9s %9s %8s %6s\n", "instr/"+c.Unit, names[0], names[1], "diff", "locked")
	for _, r := range append(c.Contexts[:len(c.Contexts):len(c.Contexts)], c.All) {
		if r.Instructions != [2]float64{} {
			fmt.Fprintln(&b, r)
		}
	}
	list(&b, "functions that differ", c.Different, 24)
	list(&b, "functions that do not", c.Same, 8)
	return b.String()
}

// list writes the first of some rows, and the sum of the others.
func list(b *strings.Builder, title string, rows []Row, most int) {
	fmt.Fprintf(b, "\n%s: %d\n", title, len(rows))
	most = min(most, len(rows))
	for _, r := range rows[:most] {
		fmt.Fprintln(b, r)
	}
	others := Row{Where: "others"}
	for _, r := range rows[most:] {
		for side := range others.Instructions {
			others.Instructions[side] += r.Instructions[side]
			others.Locked[side] += r.Locked[side]
		}
	}
	if most < len(rows) {
		fmt.Fprintln(b, others)
	}
}
