// Package matrix chooses the combinations of device, qdisc and load that the
// contract tests run.
//
// The full product of the axes is 390 cells for each mode that a driver's devices
// have, with five values of tx_queue_len. Three axes decide which code runs and when: the qdisc (its enqueue and
// dequeue paths), tx_queue_len (when the ring is full, where it wraps, when
// consumed slots are handed back) and the number of txqs. All their combinations
// are kept. The other three (mode, producers, consumers) change who races with
// whom, for which it is enough that every pair of values of any two axes meets in
// some cell; they are spread over the kept combinations so that this holds.
package matrix

import "fmt"

// Cell is one combination.
type Cell struct {
	Mode      string // of the driver's devices
	Queues    int    // txqs
	Qdisc     string // as tc names it
	TxQueue   int    // tx_queue_len, packets
	Producers int
	Consumers int // readers, or workers, of each queue
}

// String is the cell's name as a subtest, each axis an element that a -run
// pattern can select by.
func (c Cell) String() string {
	return fmt.Sprintf("%s/%dq/%s/len%d/%dp/%dc", c.Mode, c.Queues, c.Qdisc, c.TxQueue, c.Producers, c.Consumers)
}

// The axes.
var (
	queues    = []int{1, 4}
	qdiscs    = []string{"noqueue", "pfifo_fast", "pfifo", "fq", "fq_codel", "mq", "tbf"}
	producers = []int{1, 2, 4}
	consumers = []int{1, 3}
)

// possible says whether a kernel accepts the combination: mq wants a device
// with several txqs (net/sched/sch_mq.c: mq_init).
func (c Cell) possible() bool { return c.Qdisc != "mq" || c.Queues > 1 }

// All returns the cells of the whole matrix for a driver's modes, with these
// tx_queue_lens, always the same ones in the same order.
func All(modes []string, txQueues []int) []Cell {
	var cells []Cell
	met := map[pair]bool{}
	for _, qdisc := range qdiscs {
		for _, q := range queues {
			for _, length := range txQueues {
				core := Cell{Qdisc: qdisc, Queues: q, TxQueue: length}
				if core.possible() {
					cells = append(cells, core.spread(modes, met))
				}
			}
		}
	}
	return cells
}

// Short returns a few cells of All in which every value of the first three
// axes occurs: enough to see each promise at work.
func Short(modes []string, txQueues []int) []Cell {
	var cells []Cell
	met := map[pair]bool{}
	for _, c := range All(modes, txQueues) {
		news := false
		for _, p := range c.pairs() {
			// A value of one axis, kept as a pair with itself.
			for _, one := range []pair{{p.a, p.a}, {p.b, p.b}} {
				if !met[one] {
					met[one], news = true, true
				}
			}
		}
		if news {
			cells = append(cells, c)
		}
	}
	return cells
}

// spread completes core with those values of the other axes that meet the
// most pairs which have not met yet, and notes them in met.
func (core Cell) spread(modes []string, met map[pair]bool) Cell {
	best, most := core, -1
	for _, mode := range modes {
		for _, p := range producers {
			for _, c := range consumers {
				cell := core
				cell.Mode, cell.Producers, cell.Consumers = mode, p, c
				news := 0
				for _, pair := range cell.pairs() {
					if !met[pair] {
						news++
					}
				}
				if news > most {
					best, most = cell, news
				}
			}
		}
	}
	for _, pair := range best.pairs() {
		met[pair] = true
	}
	return best
}

// pair is two values of two axes, each written "axis=value".
type pair struct{ a, b string }

// pairs returns the pairs that meet in the cell.
func (c Cell) pairs() []pair {
	values := []string{
		"mode=" + c.Mode,
		fmt.Sprint("queues=", c.Queues),
		"qdisc=" + c.Qdisc,
		fmt.Sprint("len=", c.TxQueue),
		fmt.Sprint("producers=", c.Producers),
		fmt.Sprint("consumers=", c.Consumers),
	}
	var pairs []pair
	for i, a := range values {
		for _, b := range values[i+1:] {
			pairs = append(pairs, pair{a, b})
		}
	}
	return pairs
}
