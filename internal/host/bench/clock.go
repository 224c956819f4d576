package bench

import (
	"fmt"
	"time"
)

// clock compares the guest's clock with ours. A kernel that has calibrated its clock on
// a busy host, or was told a wrong frequency, counts seconds that are none, and all rates
// go by them.
type clock struct {
	began, last           time.Time
	guestBegan, guestLast time.Duration
}

// tick notes that it was so late in the guest at that time.
func (c *clock) tick(guest time.Duration, now time.Time) {
	if c.began.IsZero() {
		c.began, c.guestBegan = now, guest
	}
	c.last, c.guestLast = now, guest
}

const (
	// late is by how much what a guest prints may come late, on a busy host.
	late = time.Second
	// clockError is what rates may be wrong by: no limit of time is closer to 1 than
	// 0.98.
	clockError = 0.02
)

// wrong says that the guest's clock does not go as ours does; nil if it does, or was
// looked at too shortly.
func (c *clock) wrong() error {
	here, guest := c.last.Sub(c.began), c.guestLast-c.guestBegan
	if (guest - here).Abs() <= late+time.Duration(clockError*float64(here)) {
		return nil
	}
	return &WrongClockError{guest, here}
}

// WrongClockError says that a guest's clock went wrong: what it measured by it is
// nothing.
type WrongClockError struct{ Guest, Host time.Duration }

func (e *WrongClockError) Error() string {
	return fmt.Sprintf("the guest's clock is wrong: %.1f s have passed by it, and %.1f s by this machine's, so its rates and times do not count; its console says which clock it takes (clocksource)", e.Guest.Seconds(), e.Host.Seconds())
}
