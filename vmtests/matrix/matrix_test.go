package matrix

import "testing"

// tun's.
var (
	modes    = []string{"tap", "tun", "vhost"}
	txQueues = []int{1, 2, 16, 500, 1000}
)

// TestEveryPairMeets holds All to what its documentation claims.
func TestEveryPairMeets(t *testing.T) {
	met := map[pair]bool{}
	for _, c := range All(modes, txQueues) {
		for _, p := range c.pairs() {
			met[p] = true
		}
	}
	possible := map[pair]bool{}
	for _, qdisc := range qdiscs {
		for _, q := range queues {
			for _, length := range txQueues {
				for _, mode := range modes {
					for _, p := range producers {
						for _, c := range consumers {
							cell := Cell{mode, q, qdisc, length, p, c}
							if !cell.possible() {
								continue
							}
							for _, p := range cell.pairs() {
								possible[p] = true
							}
						}
					}
				}
			}
		}
	}
	for p := range possible {
		if !met[p] {
			t.Errorf("%s and %s never meet", p.a, p.b)
		}
	}
	t.Logf("%d cells, %d pairs", len(All(modes, txQueues)), len(possible))
}

func TestShortHasEveryValue(t *testing.T) {
	values := func(cells []Cell) map[string]bool {
		seen := map[string]bool{}
		for _, c := range cells {
			for _, p := range c.pairs() {
				seen[p.a], seen[p.b] = true, true
			}
		}
		return seen
	}
	short := values(Short(modes, txQueues))
	for v := range values(All(modes, txQueues)) {
		if !short[v] {
			t.Errorf("no short cell has %s", v)
		}
	}
	t.Logf("%d of %d cells", len(Short(modes, txQueues)), len(All(modes, txQueues)))
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range All(modes, txQueues) {
		if seen[c.String()] {
			t.Errorf("two cells are named %s", c)
		}
		seen[c.String()] = true
	}
}
