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

// Meter shows how much of some work is done, and what is being done: on a
// terminal each second, elsewhere every ten seconds.
type Meter struct {
	w        io.Writer
	title    string
	unit     string
	total    int // an estimate; 0 if there is none
	terminal bool
	start    time.Time
	stop     chan struct{}
	stopped  sync.WaitGroup

	mu    sync.Mutex
	done  int       // guarded by mu
	doing string    // guarded by mu
	since time.Time // of doing; guarded by mu
}

// New starts to show progress on w. unit is what is counted, in the plural;
// total is an estimate of how many there will be, 0 if there is none. The caller
// must End it.
func New(w io.Writer, title, unit string, total int) *Meter {
	m := &Meter{w: w, title: title, unit: unit, total: total, start: time.Now(), stop: make(chan struct{})}
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

// Add counts n more as done.
func (m *Meter) Add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
}

// Set makes n of them done.
func (m *Meter) Set(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = n
}

// Doing says what is being done from now on.
func (m *Meter) Doing(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doing, m.since = what, time.Now()
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
	if m.done > 0 {
		outcome += fmt.Sprintf(", %d %s", m.done, m.unit)
	}
	m.print(fmt.Sprintf("%s: %s in %s", m.title, outcome, age(m.start)))
	if m.terminal {
		fmt.Fprintln(m.w)
	}
}

// long is from when on it is said how long something takes.
const long = 5 * time.Second

func (m *Meter) show() {
	m.mu.Lock()
	defer m.mu.Unlock()
	line := fmt.Sprintf("%s: %d %s", m.title, m.done, m.unit)
	switch {
	case m.total > m.done:
		line = fmt.Sprintf("%s: %d of about %d %s (%d%%)", m.title, m.done, m.total, m.unit, 100*m.done/m.total)
	case m.done == 0: // what is done first says more
		line = m.title
	}
	line += ", " + age(m.start).String()
	if m.doing != "" {
		line += ": " + m.doing
		if age(m.since) >= long && age(m.since) < age(m.start) {
			line += fmt.Sprintf(" (for %s)", age(m.since))
		}
	}
	m.print(line)
}

func age(start time.Time) time.Duration { return time.Since(start).Round(time.Second) }

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
