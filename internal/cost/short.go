package cost

import "strings"

// Short is a workload's name without the names of those parameters whose values say
// what they are.
func Short(workload string) string {
	words := strings.Split(workload, "/")
	for i, word := range words {
		if key, value, ok := strings.Cut(word, "="); ok && (key == "via" || key == "qdisc") {
			words[i] = value
		}
	}
	return strings.Join(words, "/")
}
