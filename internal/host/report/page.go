package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
)

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"add1":    func(n int) int { return n + 1 },
	"count":   contract.Count[int],
	"lanes":   lanes,
	"flow":    flow,
	"held":    func(s Source, line int) bool { return slices.Contains(s.Held, line) },
	"gap":     func(s Source, i int) bool { return i > 0 && s.Lines[i].Number > s.Lines[i-1].Number+1 },
	"outcome": func(o contract.Outcome) string { return strings.ReplaceAll(string(o), " ", "-") },
}).Parse(pageHTML))

// page is the run as one HTML file that needs nothing else: no script, no network.
func (r *Run) page() ([]byte, error) {
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, struct {
		*Run
		CSS     template.CSS
		Causes  []*Cause
		Figures []figure
		Files   []file
	}{r, template.CSS(pageCSS), r.Causes(), r.Measured.figures(), r.files()})
	if err != nil {
		return nil, fmt.Errorf("write the page: %w", err)
	}
	return b.Bytes(), nil
}

// Row is what one top-level test found out, for the matrix.
type Row struct {
	Test     string
	Cells    []Promise
	Verdicts []contract.Verdict
}

// Matrix is what each top-level test found out about each promise.
func (r *Run) Matrix() []Row {
	var rows []Row
	for _, v := range r.Verdicts {
		root, _, _ := strings.Cut(v.Test, "/")
		if root == "" {
			root = "between tests"
		}
		i := slices.IndexFunc(rows, func(row Row) bool { return row.Test == root })
		if i < 0 {
			i = len(rows)
			rows = append(rows, Row{Test: root})
		}
		rows[i].Verdicts = append(rows[i].Verdicts, v)
	}
	for i := range rows {
		rows[i].Cells = (&Run{Verdicts: rows[i].Verdicts}).Promises()
	}
	return rows
}

// Of is how many checks reached the promise's outcome, and of how many.
func (p Promise) Of() string {
	all := p.Kept + p.Broken + p.Undecided + p.NotRun
	if p.count() == all {
		return fmt.Sprint(all)
	}
	return fmt.Sprintf("%d of %d", p.count(), all)
}

// Tried is whether any check was to decide the promise.
func (p Promise) Tried() bool { return p.Kept+p.Broken+p.Undecided+p.NotRun > 0 }

// Ledger is the books of all checks of a kind together.
type Ledger struct {
	Title string
	Books *contract.Books
}

// Ledgers are the books of what was sent through a qdisc, and without one.
func (r *Run) Ledgers() []Ledger {
	var all []Ledger
	for _, l := range []struct {
		title   string
		promise contract.Promise
	}{{"with a qdisc", contract.NoTailDrop}, {"with noqueue", contract.NoqueueDrops}} {
		sum := contract.Books{Drops: make(map[string]uint64), Quiet: make(map[string]uint64)}
		for _, v := range r.Verdicts {
			if v.Promise == l.promise && v.Books != nil {
				sum.Offered += v.Books.Offered
				sum.Unallocated += v.Books.Unallocated
				sum.Refused += v.Books.Refused
				sum.Received += v.Books.Received
				sum.LeftRing += v.Books.LeftRing
				sum.LeftQdisc += v.Books.LeftQdisc
				for reason, n := range v.Books.Drops {
					sum.Drops[reason] += n
				}
				for reason, n := range v.Books.Quiet {
					sum.Quiet[reason] += n
				}
			}
		}
		if sum.Offered > 0 {
			all = append(all, Ledger{l.title, &sum})
		}
	}
	return all
}

// timeLineRow is one moment of a time line that is drawn.
type timeLineRow struct {
	Time  string
	Lanes []lane
	Queue *contract.Queue
	// Differs is whether the schedule that kept the promise is the first time
	// another here.
	Differs bool
}

// lane is what one side does at a moment.
type lane struct {
	Says string
	// Held is whether the side is held up then.
	Held bool
}

type drawing struct {
	Who  []string // by lane
	Rows []timeLineRow
	// Queue is whether the txq's state is known.
	Queue bool
}

// lanes draws a time line with two lanes: one for the side that is held up, and one
// for all others. differs is the row to mark; -1 is none.
func lanes(moments []contract.Moment, differs int) drawing {
	d := drawing{Who: []string{"CPU", ""}}
	for _, m := range slices.Backward(moments) {
		if m.What == heldUp {
			d.Who[0] = m.Who
		}
		d.Queue = d.Queue || m.Queue != nil
	}
	for _, m := range slices.Backward(moments) {
		if m.Who != d.Who[0] {
			d.Who[1] = m.Who
		}
	}
	var held [2]bool
	for i, m := range moments {
		row := timeLineRow{Time: since(m.At), Queue: m.Queue, Differs: i == differs}
		side, says := 0, m.What
		if m.Who != d.Who[0] {
			side = 1
			if m.Who != d.Who[1] {
				says = m.Who + " " + m.What
			}
		}
		switch {
		case m.What == heldUp, strings.Contains(m.What, heldUp+" until"):
			held[side] = true
		case strings.HasPrefix(m.What, goesOn), m.What == "is done":
			held[side] = false
		}
		for i := range d.Who {
			row.Lanes = append(row.Lanes, lane{Held: held[i]})
		}
		row.Lanes[side].Says = says
		d.Rows = append(d.Rows, row)
	}
	return d
}

// file is an artifact that the page holds.
type file struct {
	Name, Text string
	// Cut says how much of it is left out; "" if nothing is.
	Cut string
}

// most is how much of a file the page holds: its end, which says how it ended.
const most = 64 << 10

// files are the consoles and the commands of the run's VMs.
func (r *Run) files() []file {
	var all []file
	for _, pattern := range []string{"command.sh", "console.log"} {
		names, _ := filepath.Glob(filepath.Join(r.Dir, "vm-*", pattern))
		for _, name := range names {
			short, _ := filepath.Rel(r.Dir, name)
			f := file{Name: short}
			if err := f.read(name); err != nil {
				f.Cut = err.Error()
			}
			all = append(all, f)
		}
	}
	return all
}

func (f *file) read(name string) error {
	opened, err := os.Open(name)
	if err != nil {
		return err
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return err
	}
	if left := info.Size() - most; left > 0 {
		f.Cut = fmt.Sprintf("the first %d of %s left out", left, contract.Count(info.Size(), "byte is", "bytes are"))
		if _, err := opened.Seek(left, io.SeekStart); err != nil {
			return err
		}
	}
	text, err := io.ReadAll(opened)
	f.Text = strings.ToValidUTF8(string(text), "\uFFFD")
	return err
}
