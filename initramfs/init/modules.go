package main

import (
	"bufio"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// loadModules loads what /lib/modules/load lists, one path a line, each after
// those that it depends on. It returns what did not load, and why.
func loadModules() (errs []string) {
	list, err := os.Open("/lib/modules/load")
	if err != nil {
		return nil // an image without modules
	}
	defer list.Close()
	for lines := bufio.NewScanner(list); lines.Scan(); {
		if err := loadModule(lines.Text()); err != nil && err != unix.EEXIST {
			errs = append(errs, fmt.Sprintf("%s: %v", path.Base(lines.Text()), err))
		}
	}
	return errs
}

func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
