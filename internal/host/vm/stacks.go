package vm

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// stacksTime bounds all that is asked of a guest before it is killed.
	stacksTime = 15 * time.Second
	// answerTime is how long a guest has to begin to answer.
	answerTime = time.Second
	// panicTime is the same for a panic. In an NMI, it shows nothing before
	// all CPUs have shown their stacks and have been stopped, for which it
	// waits up to 11 s (lib/nmi_backtrace.c: nmi_trigger_cpumask_backtrace;
	// arch/x86/kernel/smp.c: native_stop_other_cpus).
	panicTime = 12 * time.Second
	// answerIdle without a further line is the answer's end.
	answerIdle = 500 * time.Millisecond
)

// askForStacks asks a guest that is about to be killed where it is, and
// returns what can be learnt in stacksTime: where each CPU executes, by QEMU;
// the stacks of CPUs and of blocked tasks, by SysRq on the serial console; and
// if the guest does not take interrupts any more, what an NMI makes it say.
func (vm *VM) askForStacks(ctx context.Context, b *boot) string {
	ctx, cancel := context.WithTimeout(ctx, stacksTime)
	defer cancel()
	vm.console.ask()
	m, err := newMonitor(b.monitor)
	if err != nil {
		return err.Error()
	}
	said := cpusByQEMU(m, vm.cfg.Vmlinux)
	// The level that lets all of the answer through, CPUs, blocked tasks.
	for _, key := range "9lw" {
		if err := sysrq(m, b, byte(key)); err != nil {
			return said + err.Error()
		}
		if !vm.console.answers(ctx, answerTime) {
			break
		}
	}
	if answer := vm.console.answer(); answer != "" {
		return said + answer
	}
	said += "No answer to SysRq on the serial console: interrupts are off. Asked by NMI:\n"
	if _, err := m.execute("inject-nmi", nil); err != nil {
		return said + err.Error()
	}
	vm.console.answers(ctx, panicTime)
	if answer := vm.console.answer(); answer != "" {
		return said + answer
	}
	return said + "No answer to an NMI either.\n"
}

// sysrq presses a SysRq key: on a serial console, that is a BREAK before it
// (Documentation/admin-guide/sysrq.rst).
func sysrq(m *monitor, b *boot, key byte) error {
	if _, err := m.execute("chardev-send-break", map[string]any{"id": "console"}); err != nil {
		return err
	}
	if _, err := b.console.Write([]byte{key}); err != nil {
		return fmt.Errorf("press SysRq-%c: %w", key, err)
	}
	return nil
}

var whereExecuting = regexp.MustCompile(`(?m)^(CPU#\d+| ?(?:[RE]IP|PC)=([0-9a-f]+).*)`)

// cpusByQEMU is where each virtual CPU executes, one a line.
func cpusByQEMU(m *monitor, vmlinux string) string {
	registers, err := m.execute("human-monitor-command", map[string]any{"command-line": "info registers -a"})
	if err != nil {
		return err.Error() + "\n"
	}
	names, err := symbols(vmlinux)
	var said strings.Builder
	if err != nil {
		fmt.Fprintf(&said, "no names for addresses: %v\n", err)
	}
	for _, found := range whereExecuting.FindAllStringSubmatch(registers, -1) {
		line, address := found[1], found[2]
		if address == "" { // CPU#n
			said.WriteString(line + ": ")
			continue
		}
		pc, _ := strconv.ParseUint(address, 16, 64)
		fmt.Fprintf(&said, "%s %s\n", line, name(names, pc))
	}
	return said.String()
}

// ask turns what the console shows from now on into an answer.
func (c *console) ask() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parser.close()
	c.boot.asked = new(strings.Builder)
}

func (c *console) answer() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot.asked.String()
}

// answers waits for something to be said, and then until nothing more is. It
// returns false if nothing was within that time.
func (c *console) answers(ctx context.Context, within time.Duration) bool {
	said := len(c.answer())
	begun, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	more := func() bool { return c.boot.asked.Len() > said }
	if !c.await(begun, more) {
		return false
	}
	for {
		said = len(c.answer())
		pause, cancel := context.WithTimeout(ctx, answerIdle)
		again := c.await(pause, more)
		cancel()
		if !again {
			return true
		}
	}
}
