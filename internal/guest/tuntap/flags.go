package tuntap

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ReportedFlags returns the device's flags as queue i reports them
// (TUNGETIFF).
func (d *Device) ReportedFlags(i int) (uint16, error) {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(d.fds[i], unix.TUNGETIFF, ifr); err != nil {
		return 0, fmt.Errorf("ask queue %d of %s for its flags: TUNGETIFF: %w", i, d.Name(), err)
	}
	return ifr.Uint16(), nil
}

// SysfsFlags returns the device's flags as sysfs reports them, whether a queue
// is open or not (drivers/net/tun.c: tun_flags_show).
func (d *Device) SysfsFlags() (uint16, error) {
	file := "/sys/class/net/" + d.Name() + "/tun_flags"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read the flags of %s: %w", d.Name(), err)
	}
	flags, err := strconv.ParseUint(strings.TrimSpace(string(text)), 0, 16)
	if err != nil {
		return 0, fmt.Errorf("read the flags of %s: %s: %w", d.Name(), file, err)
	}
	return uint16(flags), nil
}
