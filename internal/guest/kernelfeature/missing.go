// Package kernelfeature says which features that a check needs are missing in the
// running kernel, or refused by it.
package kernelfeature

import "fmt"

// MissingError says that the running kernel lacks something that a check
// needs. A test turns it into a skip that names the option, found with
// errors.As; it is never a reason to pass.
type MissingError struct {
	// Option is the kernel option, "CONFIG_TUN" for example, or the kernel
	// version that brought the feature, "Linux 6.7".
	Option string
	// What is what was wanted of it: "tun and tap devices".
	What string
	// Err is how the kernel refused it.
	Err error
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("this kernel has no %s: it lacks %s (%v)", e.What, e.Option, e.Err)
}

func (e *MissingError) Unwrap() error { return e.Err }
