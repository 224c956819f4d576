package contract

import (
	"fmt"
	"hash/fnv"
)

// Shard is a part of all tests: the Number'th of Of, from 1. The zero value is
// all of them.
type Shard struct{ Number, Of int }

// ParseShard reads a shard as String writes it; "" is all tests.
func ParseShard(text string) (Shard, error) {
	if text == "" {
		return Shard{}, nil
	}
	var s Shard
	if _, err := fmt.Sscanf(text, "%d/%d", &s.Number, &s.Of); err != nil || s.Number < 1 || s.Number > s.Of || s.String() != text {
		return Shard{}, fmt.Errorf("%q is no shard: 1/3 is the first of three", text)
	}
	return s, nil
}

// String is "1/3"; "" of the zero value.
func (s Shard) String() string {
	if s.Of == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Number, s.Of)
}

// Has says whether the test of that name belongs to the shard. Each test belongs
// to one, whichever others are run.
func (s Shard) Has(test string) bool {
	if s.Of == 0 {
		return true
	}
	sum := fnv.New32a()
	sum.Write([]byte(test))
	return int(sum.Sum32()%uint32(s.Of)) == s.Number-1
}
