package main

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/ringproof/ringproof/internal/guest/kmsg"
	"golang.org/x/sys/unix"
)

// loadModules loads what /lib/modules/load lists, one path a line, each after
// those that it depends on. It returns what did not load or is not in the image,
// and why; there says whether the image has modules.
func loadModules() (errs []string, there bool) {
	list, err := os.Open("/lib/modules/load")
	if err != nil {
		return nil, false
	}
	defer list.Close()
	if leftOut, err := os.ReadFile("/lib/modules/left-out"); err == nil {
		for line := range strings.Lines(string(leftOut)) {
			errs = append(errs, strings.TrimSpace(line))
		}
	}
	for lines := bufio.NewScanner(list); lines.Scan(); {
		name := strings.TrimSuffix(path.Base(lines.Text()), ".ko")
		if err := loadModule(name, lines.Text()); err != nil {
			errs = append(errs, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return errs, true
}

// loadModule says, if the kernel refuses the module, what the kernel has to say
// about it: an error number alone stands for many reasons.
func loadModule(name, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	log, logErr := kmsg.Open()
	if logErr == nil {
		defer log.Close()
	}
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if err == nil || err == unix.EEXIST { // EEXIST: it is built in
		return nil
	}
	if logErr != nil {
		return err
	}
	records, _ := log.Read()
	for _, r := range records {
		if strings.HasPrefix(r.Text, name+": ") || strings.Contains(r.Text, "module") {
			err = fmt.Errorf("%w; %s", err, strings.TrimPrefix(r.Text, name+": "))
		}
	}
	return err
}
