package profile

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Side is one of two that are compared.
type Side struct {
	Name    string // "stock"
	Profile *Profile
	Packets uint64 // that were received meanwhile
}

// contexts are the values of Line.Where.
var contexts = []string{"producer", "consumer", "softirq", "interrupt", "fault", "idle", "other"}

const (
	// differs is from what difference on a function is told to differ, in
	// instructions for each packet, and locks the same for locked ones.
	differs, locks = 0.05, 0.005
	// most and mostAlike are how many functions that differ are told, and how
	// many that do not.
	most, mostAlike = 24, 8
)

// row is so many instructions for each packet, base and patched.
type row struct {
	where, function      string
	instructions, locked [2]float64
}

func (r row) diff() float64       { return r.instructions[1] - r.instructions[0] }
func (r row) lockedDiff() float64 { return r.locked[1] - r.locked[0] }

func (r row) differs() bool {
	return math.Abs(r.diff()) >= differs || math.Abs(r.lockedDiff()) >= locks
}

// String is at most 72 characters long.
func (r row) String() string {
	locked := ""
	if math.Abs(r.lockedDiff()) >= locks {
		locked = fmt.Sprintf("%+.2f", r.lockedDiff())
	}
	s := fmt.Sprintf("%-9s %-26.26s %9.1f %9.1f %+8.1f %6s", r.where, r.function, r.instructions[0], r.instructions[1], r.diff(), locked)
	return strings.TrimRight(s, " ")
}

// Compare writes where the instructions of a packet go on two sides, and first of
// the functions those that differ.
func Compare(w io.Writer, base, patched Side) error {
	total := row{where: "all"}
	var sums []row
	functions := make(map[[2]string]*row)
	for _, context := range contexts {
		sums = append(sums, row{where: context})
	}
	for i, side := range []Side{base, patched} {
		if side.Packets == 0 {
			return fmt.Errorf("%s has received no packet for which its instructions could be told", side.Name)
		}
		for _, line := range side.Profile.Lines {
			at := [2]string{line.Where, line.Function}
			if functions[at] == nil {
				functions[at] = &row{where: line.Where, function: line.Function}
			}
			for _, r := range []*row{&total, &sums[slices.Index(contexts, line.Where)], functions[at]} {
				r.instructions[i] += float64(line.Instructions) / float64(side.Packets)
				r.locked[i] += float64(line.Locked) / float64(side.Packets)
			}
		}
	}
	var different, same []row
	for _, r := range functions {
		if r.differs() {
			different = append(different, *r)
		} else {
			same = append(same, *r)
		}
	}
	sort := func(rows []row, by func(row) float64) {
		slices.SortFunc(rows, func(a, b row) int {
			return cmp.Or(cmp.Compare(by(b), by(a)), cmp.Compare(a.where, b.where), cmp.Compare(a.function, b.function))
		})
	}
	sort(different, func(r row) float64 { return math.Abs(r.diff()) })
	sort(same, func(r row) float64 { return r.instructions[0] })

	var out strings.Builder
	fmt.Fprintf(&out, "%-36s %9.9s %9.9s %8s %6s\n", "instructions per packet received", base.Name, patched.Name, "diff", "locked")
	for _, r := range append(sums, total) {
		fmt.Fprintln(&out, r)
	}
	list(&out, "differ", different, most)
	list(&out, "do not", same, mostAlike)
	_, err := io.WriteString(w, out.String())
	return err
}

// list writes the first rows, and the sum of the others.
func list(w io.Writer, what string, rows []row, most int) {
	fmt.Fprintf(w, "\nfunctions that %s: %d\n", what, len(rows))
	most = min(most, len(rows))
	for _, r := range rows[:most] {
		fmt.Fprintln(w, r)
	}
	others := row{where: fmt.Sprintf("%d others", len(rows)-most)}
	for _, r := range rows[most:] {
		for side := range r.instructions {
			others.instructions[side] += r.instructions[side]
			others.locked[side] += r.locked[side]
		}
	}
	if most < len(rows) {
		fmt.Fprintln(w, others)
	}
}
