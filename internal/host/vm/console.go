package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// noPort is how init's line on the console begins that says why it cannot
// report to us (initramfs/init: noPort).
const noPort = "init: no port to the host"

// reportIdle is how long a report waits for its next line: one whose end is
// not marked ends when the kernel pauses.
const reportIdle = 300 * time.Millisecond

// maxLine bounds a line of the console; what is longer counts as several.
const maxLine = 8 << 10

// console is the guest's serial console: its log file, and what was
// understood of it. One goroutine reads; the rest may be asked at any time.
type console struct {
	file     *os.File
	onReport func(KernelReport)

	mu       sync.Mutex
	parser   parser
	told     int           // how many of the parser's reports were given to onReport
	err      error         // first failure to write the file
	boot     bootLog       // of the current boot
	complete bool          // the last boot has ended
	moved    chan struct{} // closed, and made anew, when there is news
}

// bootLog is about one boot; there may be a second on another machine.
type bootLog struct {
	bytes  int64  // read so far
	last   string // line with text
	noPort string // init's complaint
	// failed is closed once noPort is set.
	failed chan struct{}
	// up says that init has reported: there will be no other boot.
	up bool
	// asked collects the lines that come after the guest was asked for its
	// stacks; nil before.
	asked *strings.Builder
}

func openConsole(dir string, onReport func(KernelReport)) (*console, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for the VM's artifacts: %w", err)
	}
	file, err := os.Create(filepath.Join(dir, "console.log"))
	if err != nil {
		return nil, fmt.Errorf("keep the VM's console: %w", err)
	}
	return &console{file: file, onReport: onReport, moved: make(chan struct{})}, nil
}

// begin forgets the boot before, and says in the log what follows. The channel
// is closed when init says that it cannot report to us.
func (c *console) begin(heading string) (failed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boot = bootLog{failed: make(chan struct{})}
	c.parser = parser{}
	c.told = 0
	c.save([]byte("# " + heading + "\n"))
	return c.boot.failed
}

// read reads until QEMU is dead.
func (c *console) read(console *os.File) {
	buf := make([]byte, 32<<10)
	var partial []byte
	for {
		// A deadline rather than a timer: reports are closed from here only.
		console.SetReadDeadline(time.Now().Add(reportIdle))
		n, err := console.Read(buf)
		c.mu.Lock()
		c.save(buf[:n])
		c.boot.bytes += int64(n)
		partial = append(partial, buf[:n]...)
		for {
			i := bytes.IndexByte(partial, '\n')
			if i < 0 && len(partial) > maxLine {
				i = maxLine
			}
			if i < 0 {
				break
			}
			c.line(string(bytes.TrimRight(partial[:i], "\r")))
			partial = partial[i+1:]
		}
		idle := errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !idle {
			c.line(string(partial))
		}
		if err != nil {
			c.parser.close()
		}
		var tell []KernelReport
		if c.boot.up {
			tell = c.parser.found[c.told:]
		}
		c.mu.Unlock()
		for _, r := range tell {
			c.onReport(r)
		}
		c.mu.Lock()
		c.told += len(tell)
		c.news()
		c.mu.Unlock()
		if err != nil && !idle {
			return
		}
	}
}

func (c *console) line(text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	c.boot.last = text
	if c.boot.asked != nil {
		// What the guest shows because we asked is no report of its own.
		c.boot.asked.WriteString(text + "\n")
		return
	}
	if _, complaint, ok := strings.Cut(text, noPort+": "); ok && c.boot.noPort == "" {
		c.boot.noPort = "the guest has no virtio-serial port to report to us: " + complaint
		close(c.boot.failed)
	}
	c.parser.line(text)
}

// save writes to the log file as long as that works.
func (c *console) save(p []byte) {
	if c.err != nil || len(p) == 0 {
		return
	}
	if _, err := c.file.Write(p); err != nil {
		c.err = fmt.Errorf("keep the VM's console: %w", err)
	}
}

// up says that this boot is the one that counts, and with it what the kernel
// reported in it so far.
func (c *console) up() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boot.up = true
}

// close is called when QEMU is dead, and not started again.
func (c *console) close() error {
	for _, r := range c.parser.found[c.told:] {
		c.onReport(r)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = len(c.parser.found)
	c.complete = true
	c.news()
	if err := c.file.Close(); err != nil && c.err == nil {
		c.err = fmt.Errorf("keep the VM's console: %w", err)
	}
	return c.err
}

// news wakes those who wait. c.mu is held.
func (c *console) news() {
	close(c.moved)
	c.moved = make(chan struct{})
}

// await waits until done, which is called with c.mu held. It returns false
// if ctx or the VM ends first.
func (c *console) await(ctx context.Context, done func() bool) bool {
	for {
		c.mu.Lock()
		ok, complete, moved := done(), c.complete, c.moved
		c.mu.Unlock()
		if ok || complete {
			return ok
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// awaitEnd is VM.AwaitEnd.
func (c *console) awaitEnd(ctx context.Context, test string, nth int) bool {
	return c.await(ctx, func() bool {
		return c.parser.marks.ended[test] >= nth && c.parser.open == nil && c.told == len(c.parser.found)
	})
}

// speakTime is how long the console may take to show the line that init wrote to
// the kernel's log before it reported.
const speakTime = 5 * time.Second

// speaks says whether anything has come, once init has reported.
func (c *console) speaks(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, speakTime)
	defer cancel()
	return c.await(ctx, func() bool { return c.boot.bytes > 0 })
}

// state is what is known of the current boot.
func (c *console) state() (log bootLog, reports []KernelReport, running string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot, c.parser.found, c.parser.marks.running()
}

// lastWords says how far the guest came, by its console.
func (l bootLog) lastWords() string {
	if l.bytes == 0 {
		return "its console stayed empty: is it a kernel for this machine, with the driver of its serial console (CONFIG_SERIAL_8250_CONSOLE, on arm64 CONFIG_SERIAL_AMBA_PL011_CONSOLE)?"
	}
	return fmt.Sprintf("its last line on the console is %q", l.last)
}
