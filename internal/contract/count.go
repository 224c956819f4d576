package contract

import "fmt"

// Count is a number of things in words: "1 packet", "2 packets". Many are called so
// where an "s" does not do: Count(n, "packet was", "packets were").
func Count[N ~int | ~int64 | ~uint32 | ~uint64](n N, one string, many ...string) string {
	switch {
	case n == 1:
		return "1 " + one
	case len(many) > 0:
		return fmt.Sprintf("%d %s", n, many[0])
	}
	return fmt.Sprintf("%d %ss", n, one)
}
