package cost

import "testing"

func TestQuantile(t *testing.T) {
	upTo := func(n int) (values []float64) {
		for i := range n {
			values = append(values, float64(i+1))
		}
		return values
	}
	for _, c := range []struct {
		n    int
		q    float64
		want float64 // 0 is that it cannot be told
	}{
		{0, 0.5, 0}, {1, 0.5, 0}, {9, 0.5, 0}, {10, 0.5, 5}, {11, 0.5, 6},
		{200, 0.999, 0}, {499, 0.99, 0}, {500, 0.99, 495}, {1000, 0.99, 990},
		{4999, 0.999, 0}, {5000, 0.999, 4995}, {10000, 0.999, 9990},
		{100, 0, 0},
	} {
		got, ok := Quantile(upTo(c.n), c.q)
		if ok != (c.want != 0) || got != c.want {
			t.Errorf("%v of %d values: %v, %v; want %v", c.q, c.n, got, ok, c.want)
		}
	}
}
