// Package meter shows how far long work is: on a terminal one line in
// place, elsewhere a plain line now and then.
package meter

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Meter shows how many steps of some work are done: on a terminal each second,
// elsewhere every ten seconds.
type Meter struct {
	w        io.Writer
	title    string
	total    int // an estimate; 0 if there is none
	terminal bool
	start    time.Time
	stop     chan struct{}
	stopped  sync.WaitGroup

	mu   sync.Mutex
	done int    // guarded by mu
	last string // guarded by mu
}

// New starts to show progress on w. total is an estimate of the number of
// steps; 0 if there is none. The caller must End it.
func New(w io.Writer, title string, total int) *Meter {
	m := &Meter{w: w, title: title, total: total, start: time.Now(), stop: make(chan struct{})}
	every := 10 * time.Second
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			m.terminal = true
			every = time.Second
		}
	}
	m.stopped.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.show()
			case <-m.stop:
				return
			}
		}
	})
	return m
}

// Step counts a step that is done, or under way.
func (m *Meter) Step(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done++
	m.last = what
}

// End shows the outcome, on a line of its own.
func (m *Meter) End(ok bool) {
	close(m.stop)
	m.stopped.Wait()
	outcome := "done"
	if !ok {
		outcome = "not finished"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.print(fmt.Sprintf("%s: %s, %d steps in %s", m.title, outcome, m.done, m.elapsed()))
	if m.terminal {
		fmt.Fprintln(m.w)
	}
}

func (m *Meter) show() {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := fmt.Sprintf("%d steps", m.done)
	if m.total > m.done {
		count = fmt.Sprintf("%d of about %d steps (%d%%)", m.done, m.total, 100*m.done/m.total)
	}
	m.print(fmt.Sprintf("%s: %s, %s: %s", m.title, count, m.elapsed(), m.last))
}

func (m *Meter) elapsed() time.Duration { return time.Since(m.start).Round(time.Second) }

// print writes one line, on a terminal over the one before.
func (m *Meter) print(line string) {
	if !m.terminal {
		fmt.Fprintln(m.w, line)
		return
	}
	if ws, err := unix.IoctlGetWinsize(int(m.w.(*os.File).Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 0 && len(line) >= int(ws.Col) {
		line = line[:ws.Col-1] // or it would wrap, and scroll
	}
	fmt.Fprintf(m.w, "\r\x1b[K%s", line)
}
