package bench

import (
	"testing"
	"time"
)

// TestWrongClock: a clock is wrong if it was looked at for long enough, and went another
// way.
func TestWrongClock(t *testing.T) {
	for _, tt := range []struct {
		name        string
		guest, host time.Duration
		wrong       bool
	}{
		{"as ours", 60 * time.Second, 60100 * time.Millisecond, false},
		{"half as fast", 30 * time.Second, 60 * time.Second, true},
		{"too fast", 63 * time.Second, 60 * time.Second, true},
		{"twice as fast, for a short time", 7 * time.Second, 3500 * time.Millisecond, true},
		{"seen too shortly", 500 * time.Millisecond, time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c clock
			began := time.Now()
			c.tick(3*time.Second, began)
			c.tick(3*time.Second+tt.guest/2, began.Add(tt.host/2))
			c.tick(3*time.Second+tt.guest, began.Add(tt.host))
			if err := c.wrong(); (err != nil) != tt.wrong {
				t.Errorf("%v", err)
			}
		})
	}
	var never clock
	if err := never.wrong(); err != nil {
		t.Errorf("nothing was seen of the clock, and it is wrong: %v", err)
	}
}
