package contract

import (
	"fmt"
	"slices"
	"strings"
)

// Drivers are those that can be tested. A test of more than one is named by each.
var Drivers = []string{"tun", "veth", "macvtap"}

// AllDrivers stands for all of them.
const AllDrivers = "all"

// ParseDriver reads what DRIVER is set to; "" is the first of Drivers.
func ParseDriver(name string) (string, error) {
	switch {
	case name == "":
		return Drivers[0], nil
	case name == AllDrivers || slices.Contains(Drivers, name):
		return name, nil
	}
	return "", fmt.Errorf("DRIVER=%q: must be %s, or %s for each of them", name, strings.Join(Drivers, ", "), AllDrivers)
}
