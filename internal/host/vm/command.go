package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hugelgupf/vmtest/qemu"
)

// Command is a shell command that boots the same VM at a terminal: there, the
// program prints on the console, and ^A x ends QEMU.
func (vm *VM) Command() string { return vm.command }

// reproduce makes Command for that machine, and keeps it with the artifacts.
func (vm *VM) reproduce(machine Machine) error {
	o, err := qemu.OptionsFor(vm.platform.arch, vm.options(machine), machine.device(qemu.WithQEMUArgs(
		"-device", "virtio-serial", "-serial", "mon:stdio")))
	if err != nil {
		return fmt.Errorf("configure QEMU: %w", err)
	}
	o.QEMUCommand = "" // which would be split at spaces
	args, err := o.Cmdline()
	if err != nil {
		return fmt.Errorf("configure QEMU: %w", err)
	}
	args = append(vm.program.command(), args...)
	for i, arg := range args {
		args[i] = Quote(arg)
	}
	vm.command = strings.Join(args, " ")
	script := "#!/bin/sh\n# Boots the same VM at a terminal; ^A x ends it.\nexec " + vm.command + "\n"
	if err := os.WriteFile(filepath.Join(vm.cfg.Dir, "command.sh"), []byte(script), 0o755); err != nil {
		return fmt.Errorf("keep the VM's command line: %w", err)
	}
	return nil
}

var plain = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// Quote quotes a word for a POSIX shell.
func Quote(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
