package vm

import (
	"fmt"
	"strings"
)

// ParseAccel returns the accelerator of that name; "" is Auto.
func ParseAccel(name string) (Accel, error) {
	switch a := Accel(name); a {
	case "":
		return Auto, nil
	case Auto, KVM, TCG:
		return a, nil
	}
	return "", fmt.Errorf("unknown accelerator %q: ACCEL must be one of %s", name, strings.Join([]string{string(Auto), string(KVM), string(TCG)}, ", "))
}

// String is the accelerator and the reason.
func (c Choice) String() string { return fmt.Sprintf("%s (%s)", c.Accel, c.Reason) }
