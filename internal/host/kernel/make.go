package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
	"github.com/ringproof/ringproof/internal/host/meter"
)

// MakeError is a build that failed.
type MakeError struct {
	Lines []string // what the compiler, linker or make said of it
	Log   string   // file with all that make wrote
	Err   error    // *DiskFullError, or make's exit status
}

func (e *MakeError) Error() string {
	s := "the kernel does not build:\n  " + strings.Join(e.Lines, "\n  ")
	var full *DiskFullError
	if errors.As(e.Err, &full) {
		s = "the kernel does not build: " + full.Error()
	}
	if strings.Contains(s, "-std=c23") { // gcc 15: "'bool' is a keyword with '-std=c23' onwards"
		s += "\nthis source is older than the compiler: choose an older one, as in CC=gcc-13 HOSTCC=gcc-13"
	}
	return s + "\nthe whole log is in " + e.Log
}

// Killed says whether the compiler did not end by itself: memory ran out, mostly.
func (e *MakeError) Killed() bool {
	return slices.ContainsFunc(e.Lines, func(line string) bool {
		return strings.Contains(line, "Killed") || strings.Contains(line, "Cannot allocate memory") || strings.Contains(line, "out of memory")
	})
}

func (e *MakeError) Unwrap() error { return e.Err }

// withLines are the object files that have line tables even where the
// configuration asks for none, by their names without .o: those that findings
// point into, and init/main.c, which tells where the tree was (srcline.Lines).
// Line tables of all would take a sixth more time.
var withLines = []string{"tun", "net", "vhost", "main"}

// lineFlags make gcc write line tables, without the types, which triple them.
const lineFlags = "-g -fno-var-tracking -femit-struct-debug-baseonly"

// make builds what has changed. The kernel shows the beginning of key in
// uname -v, so that a running one can be told from others of its release.
func (o *objects) make(ctx context.Context, key string, jobs int, progress io.Writer) error {
	if jobs == 0 {
		jobs = runtime.NumCPU()
	}
	targets := []string{targetArch().imageFile()}
	if o.modular() {
		targets = append(targets, "modules")
	}
	if o.values["DEBUG_INFO"] != "y" {
		for _, name := range withLines {
			// scripts/Makefile.lib: _c_flags
			targets = append(targets, "CFLAGS_"+name+".o="+lineFlags)
		}
	}
	c, err := o.command(ctx, nil, append(targets, fmt.Sprintf("-j%d", jobs))...)
	if err != nil {
		return fmt.Errorf("build the kernel: %w", err)
	}
	c.env("KBUILD_BUILD_VERSION=" + key[:12])
	log, err := os.Create(o.log)
	if err != nil {
		return fmt.Errorf("build the kernel: %w", diskFull(err, o.tree.dir))
	}
	defer log.Close()
	// Not through O_TRUNC of an old one: its time says when this make began.
	os.Remove(o.unfinished())
	if err := os.WriteFile(o.unfinished(), nil, 0o666); err != nil {
		return fmt.Errorf("build the kernel: %w", diskFull(err, o.tree.dir))
	}
	m := meter.New(progress, "building "+o.about, "steps", o.expect())
	m.Doing("make looks for what has changed")
	stdout, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("build the kernel: %w", err)
	}
	// One pipe for both, so that the log has the order in which they were
	// written.
	c.Stdout, c.Stderr = w, w
	done := make(chan []string)
	go func() { done <- follow(stdout, log, m) }()
	err = c.run()
	w.Close()
	lines := <-done
	stdout.Close()
	m.End(err == nil)
	// make has ended by itself, or was interrupted: either way it has
	// removed what was half written.
	os.Remove(o.unfinished())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		return nil
	}
	me := &MakeError{Lines: telling(lines), Log: o.log, Err: err}
	for _, line := range lines {
		if strings.Contains(line, "No space left on device") {
			have, _ := cache.Free(o.dir)
			me.Err = &DiskFullError{Dir: o.dir, Free: have, Need: objectRoom}
		}
	}
	return me
}

// expect estimates the steps of a build from nothing: two for each option
// that is set, as counted with 6.12. 0 where something was built before.
func (o *objects) expect() int {
	if exists(o.dir + "/vmlinux") {
		return 0
	}
	n := 0
	for _, value := range o.values {
		if value == "y" || value == "m" {
			n += 2
		}
	}
	return n
}

// step matches how kbuild announces a command: "  CC      drivers/net/tun.o".
var step = regexp.MustCompile(`^  [A-Z][A-Z0-9_+ ()]{0,10}[A-Z)] +\S`)

// follow copies make's output to the log, counts its steps, and returns the
// other lines.
func follow(r io.Reader, log io.Writer, m *meter.Meter) []string {
	var rest []string
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		line := scan.Text()
		fmt.Fprintln(log, line) // a log on a full disk is cut short
		if step.MatchString(line) {
			m.Doing(strings.Join(strings.Fields(line), " "))
			m.Add(1)
		} else {
			rest = append(rest, line)
		}
	}
	io.Copy(log, r) // what follows a line beyond measure
	return rest
}

var complaint = regexp.MustCompile(`error:|Error:|ERROR|undefined reference|No space left|: fatal|\*\*\* |Killed|cannot find`)

// telling picks the lines that say what is wrong: from a little before the
// first complaint, since gcc says "In function" first, and not the "***
// [Makefile] Error 2" of each make in the stack.
func telling(lines []string) []string {
	const before, most = 3, 30
	for i, line := range lines {
		if !complaint.MatchString(line) {
			continue
		}
		var picked []string
		for _, line := range lines[max(0, i-before):] {
			if strings.HasPrefix(line, "make") && !strings.Contains(line, "No rule") && len(picked) > before {
				continue
			}
			if len(picked) == most {
				return append(picked, "...")
			}
			picked = append(picked, line)
		}
		return picked
	}
	return lines[max(0, len(lines)-most):]
}
