package report

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/ringproof/ringproof/internal/contract"
)

// SideBySide shows runs in columns: what each says about each promise under
// its contract, and the packets of all its books together.
func SideBySide(runs ...*Run) string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	row := func(name string, cell func(*Run) string) {
		fmt.Fprint(tw, name)
		for _, r := range runs {
			fmt.Fprintf(tw, "\t%s", cell(r))
		}
		fmt.Fprintln(tw)
	}
	row("", func(r *Run) string { return r.Label })
	row("kernel", func(r *Run) string { return r.Booted() })
	row("contract", func(r *Run) string { return string(r.Contract) })
	for _, id := range promisesOf(runs...) {
		row(string(id), func(r *Run) string {
			p := r.promise(id)
			if p.Shout() == "not tried" {
				return p.Shout()
			}
			return fmt.Sprintf("%s (%d of %s)", p.Shout(), p.count(), contract.Count(p.Kept+p.Broken+p.Undecided+p.NotRun, "check"))
		})
	}
	for _, s := range []struct {
		name string
		of   func(*contract.Books) int64
	}{
		{"packets offered to a qdisc", func(b *contract.Books) int64 { return int64(b.Offered) }},
		{"  refused to the sender", func(b *contract.Books) int64 { return int64(b.Unallocated + b.Refused) }},
		{"  accepted and received", func(b *contract.Books) int64 { return int64(b.Received) }},
		{"  accepted and lost", (*contract.Books).Lost},
		{"  left in the qdisc or the ring", func(b *contract.Books) int64 { return int64(b.LeftQdisc + b.LeftRing) }},
	} {
		row(s.name, func(r *Run) string { return fmt.Sprint(r.sum(contract.NoTailDrop, s.of)) })
	}
	row("tail drops with a qdisc", func(r *Run) string {
		return fmt.Sprint(r.sum(contract.NoTailDrop, tailDrops))
	})
	row("tail drops with noqueue", func(r *Run) string {
		return fmt.Sprint(r.sum(contract.NoqueueDrops, tailDrops))
	})
	row("artifacts", func(r *Run) string { return r.Dir })
	tw.Flush()
	return b.String()
}

func tailDrops(b *contract.Books) int64 { return int64(b.DropsFor(contract.FullRing)) }

// count is how many checks reached the promise's outcome.
func (p Promise) count() int {
	switch p.Outcome {
	case contract.Kept:
		return p.Kept
	case contract.Broken:
		return p.Broken
	case contract.NotRun:
		return p.NotRun
	default:
		return p.Undecided
	}
}

// sum adds a figure up over the books of the checks that decided a promise.
func (r *Run) sum(id contract.Promise, figure func(*contract.Books) int64) int64 {
	var n int64
	for _, v := range r.Verdicts {
		if v.Promise == id && v.Books != nil {
			n += figure(v.Books)
		}
	}
	return n
}
