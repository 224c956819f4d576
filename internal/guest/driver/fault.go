package driver

// Fault is something that happens to a device, by itself.
type Fault struct {
	Name string
	// Arguments are what the fault's number may be, for faults that have one:
	// packets, or slots.
	Arguments []int
	// Says names the fault with its number where Name and the number do not.
	Says func(n int) string
	// OptIn: it needs a driver that has IFF_BACKPRESSURE.
	OptIn bool
	// Failing: the number says which allocation fails meanwhile. It needs a
	// kernel whose allocations can be made to fail.
	Failing bool

	Do func(b Bench, n int) error
}

// Step is a fault with its number.
type Step struct {
	Fault *Fault
	N     int
}

// RefusedError says that the kernel has refused a fault, lawfully.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return "refused: " + e.Why }
