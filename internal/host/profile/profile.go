// Package profile says where in the guest instructions are executed: in which
// functions, and whether by a producer's task, a consumer's, another, in a softirq
// or in an interrupt. It counts all of them, by a plugin of QEMU's.
package profile

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Profile is what was executed between two marks of the guest.
type Profile struct {
	// Instructions are all of them; those of the Lines sum up to it.
	Instructions uint64
	Lines        []Line
}

// Line is what one function has executed in one context.
type Line struct {
	// Where is "producer", "consumer", "idle" or "other" for what a task does, or
	// "softirq", "interrupt" or "fault" (of a page, mostly), whatever task they
	// came upon.
	Where string
	// Function is as the source names it, or User.
	Function string
	// Instructions were executed, Locked of them with the bus locked: they have
	// the prefix lock, or exchange a register with memory.
	Instructions, Locked uint64
}

// User stands for all of user space: programs of the harness.
const User = "[user space]"

// Take reads what the plugin has written of the nth window in dir, and leaves the
// Profile there instead: see Read. An error says, too, if what is there does not sum up.
func (k *Kernel) Take(dir string, n int) (*Profile, error) {
	file := written(dir, n)
	p, err := k.read(file)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	// By address, it has a hundred times the size.
	return p, errors.Join(os.WriteFile(file+kept, text, 0o666), os.Remove(file))
}

// Read reads the nth window's Profile that Take has left in dir.
func Read(dir string, n int) (*Profile, error) {
	file := written(dir, n) + kept
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read a profile: %w", err)
	}
	var p Profile
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return &p, nil
}

// kept ends the name of a file that holds a Profile.
const kept = ".json"

// written is the file of the plugin's for the nth window, as the guest counts them from 1 on.
func written(dir string, n int) string { return filepath.Join(dir, fmt.Sprintf("profile.%d", n)) }

// Clean removes what the plugin has written into dir of windows that nobody has taken.
func Clean(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "profile.*[0-9]"))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

func (k *Kernel) read(file string) (*Profile, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read a profile: %w", err)
	}
	defer f.Close()
	var p Profile
	var astray, sum uint64
	in := bufio.NewReader(f)
	if _, err := fmt.Fscanf(in, "instructions %d\nastray %d\n", &p.Instructions, &astray); err != nil {
		return nil, fmt.Errorf("read %s: its beginning: %w", file, err)
	}
	type place struct{ where, function string }
	lines := make(map[place]*Line)
	for {
		text, err := in.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("read %s: it has no end: %w", file, err)
		}
		if text == "end\n" {
			break
		}
		var role, context string
		var addr, count, locked uint64
		if _, err := fmt.Sscanf(text, "%s %s %x %d %d\n", &role, &context, &addr, &count, &locked); err != nil {
			return nil, fmt.Errorf("read %s: the line %q: %w", file, strings.TrimSpace(text), err)
		}
		at := place{context, User}
		if context == "task" {
			at.where = role
		}
		if addr != 0 {
			at.function = k.function(addr)
		}
		line := lines[at]
		if line == nil {
			line = &Line{Where: at.where, Function: at.function}
			lines[at] = line
		}
		line.Instructions += count
		line.Locked += locked
		sum += count
	}
	if astray > 0 {
		return nil, fmt.Errorf("%s: the plugin has lost track %d times of what is a task's, a softirq's or an interrupt's", file, astray)
	}
	if sum != p.Instructions {
		return nil, fmt.Errorf("%s: %d instructions were executed, and its lines sum up to %d", file, p.Instructions, sum)
	}
	for _, line := range lines {
		p.Lines = append(p.Lines, *line)
	}
	slices.SortFunc(p.Lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(b.Instructions, a.Instructions), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Function, b.Function))
	})
	return &p, nil
}

// Locked is how many instructions locked the bus that the kernel executed for the
// packets: by a producer's task, a consumer's or in a softirq.
func (p *Profile) Locked() (n uint64) {
	for _, line := range p.Lines {
		if slices.Contains([]string{"producer", "consumer", "softirq"}, line.Where) && line.Function != User {
			n += line.Locked
		}
	}
	return n
}

// Only returns what was executed in one context, as Line.Where has it.
func (p *Profile) Only(where string) *Profile {
	var only Profile
	for _, line := range p.Lines {
		if line.Where == where {
			only.Lines = append(only.Lines, line)
			only.Instructions += line.Instructions
		}
	}
	return &only
}

// tolerance is the part by which the plugin's and the clock's numbers may differ:
// between the clock's readings and the marks is more than nothing, and an
// instruction that faults is executed twice and counted once by the clock.
const tolerance = 1e-3

// Kernel is how many instructions the kernel executed, but for page faults, which are
// those of programs, and for the idle task.
func (p *Profile) Kernel() (n uint64) {
	for _, line := range p.Lines {
		if line.Function != User && line.Where != "fault" && line.Where != "idle" {
			n += line.Instructions
		}
	}
	return n
}

// Idle is how many instructions the idle task executed.
func (p *Profile) Idle() (n uint64) {
	for _, line := range p.Lines {
		if line.Where == "idle" {
			n += line.Instructions
		}
	}
	return n
}

// Agrees returns an error if the guest's clock has counted another number of
// instructions. Idle time is taken off what the clock tells, and with it most of
// what the idle task executes (kernel/time/tick-sched.c: tick_nohz_start_idle). With
// idleUnknown it is not, and if the guest was idle, there can be any number more.
func (p *Profile) Agrees(clock float64, idleUnknown bool) error {
	off, idle := float64(p.Instructions)-clock, float64(p.Idle())
	less := off < -tolerance*clock && !(idleUnknown && idle > 0)
	if less || off > tolerance*clock+idle {
		return fmt.Errorf("the plugin has counted %d instructions, %.0f of them of the idle task, where the guest's clock has counted %.0f: they differ by %+.2f %%, and may by %.1f", p.Instructions, idle, clock, 100*off/clock, 100*tolerance)
	}
	return nil
}
