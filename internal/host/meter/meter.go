// Package meter shows the progress of long work: on a terminal in one line, elsewhere
// in a plain line from time to time.
package meter

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/fatih/color"
	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// Meter shows how much of some work is done, and what is being done: on a
// terminal each second, elsewhere every ten seconds.
type Meter struct {
	w       io.Writer
	title   string
	unit    string
	total   int // an estimate; 0 if there is none
	start   time.Time
	stop    chan struct{}
	stopped sync.WaitGroup
	// live and bar draw the line on a terminal; nil elsewhere.
	live *mpb.Progress
	bar  *mpb.Bar
	// bold, good and bad are colours, if they are wanted.
	bold, good, bad *color.Color

	mu      sync.Mutex
	done    int           // guarded by mu
	also    string        // guarded by mu
	doing   string        // guarded by mu
	since   time.Time     // of doing; guarded by mu
	left    time.Duration // that the rest takes, from leftAt on; 0 if nobody knows; guarded by mu
	leftAt  time.Time     // guarded by mu
	outcome string        // once it has ended; guarded by mu
	colour  *color.Color  // of outcome; guarded by mu
	took    time.Duration // once it has ended; guarded by mu
}

// How often the line is shown: in place, and as one more line.
const (
	everyLive  = time.Second
	everyPlain = 10 * time.Second
)

// New starts to show progress on w. unit is what is counted, in the plural;
// total is an estimate of how many there will be, 0 if there is none. The caller
// must End it, and write nothing to w before.
//
// Colours are left out if NO_COLOR is set (https://no-color.org), and a terminal
// that cannot move its cursor (TERM=dumb) or has no size gets plain lines.
func New(w io.Writer, title, unit string, total int) *Meter {
	m := &Meter{
		w: w, title: title, unit: unit, total: total, start: time.Now(), stop: make(chan struct{}),
		bold: color.New(color.Bold), good: color.New(color.FgGreen), bad: color.New(color.FgRed),
	}
	terminal := isTerminal(w) && os.Getenv("TERM") != "dumb"
	for _, c := range []*color.Color{m.bold, m.good, m.bad} {
		if terminal && os.Getenv("NO_COLOR") == "" {
			c.EnableColor()
		} else {
			c.DisableColor()
		}
	}
	if terminal {
		m.live = mpb.New(mpb.WithOutput(w), mpb.WithRefreshRate(everyLive))
		m.bar = m.live.New(1, mpb.NopStyle(), mpb.BarFillerTrim(), mpb.PrependDecorators(&inPlace{m: m}))
		return m
	}
	m.stopped.Go(func() {
		tick := time.NewTicker(everyPlain)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.print()
			case <-m.stop:
				return
			}
		}
	})
	return m
}

// isTerminal says whether w is a terminal that has a size: one of no lines, as a program
// that only records makes, would show nothing.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	return err == nil && width > 0 && height > 0
}

// Add counts n more as done.
func (m *Meter) Add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count(m.done + n)
}

// Set makes n of them done.
func (m *Meter) Set(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count(n)
}

func (m *Meter) count(n int) {
	m.done = n
	if m.total == 0 || n == 0 {
		return
	}
	m.left = time.Since(m.start) / time.Duration(n) * time.Duration(max(m.total-n, 0))
	m.leftAt = time.Now()
}

// Also is shown behind what is counted: what else is.
func (m *Meter) Also(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.also = what
}

// Left is an estimate of how long the rest takes from now on, where that does not
// follow from what is counted.
func (m *Meter) Left(rest time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.leftAt = rest, time.Now()
}

// Doing says what is being done from now on.
func (m *Meter) Doing(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if what != m.doing {
		m.doing, m.since = what, time.Now()
	}
}

// End shows the outcome, on a line of its own.
func (m *Meter) End(ok bool) {
	close(m.stop)
	m.stopped.Wait()
	m.mu.Lock()
	m.outcome, m.colour = "done", m.good
	if !ok {
		m.outcome, m.colour = "not finished", m.bad
	}
	m.took = age(m.start)
	m.mu.Unlock()
	if m.live == nil {
		m.print()
		return
	}
	m.bar.SetCurrent(1)
	m.live.Wait()
}

// long is from when on it is said how long something takes, or will.
const long = 5 * time.Second

// counted is how much is done, in words.
func (m *Meter) counted() string {
	unit := m.unit
	if m.done == 1 {
		unit = strings.TrimSuffix(unit, "s")
	}
	return fmt.Sprintf("%d %s", m.done, unit)
}

// line is what is shown behind the title.
func (m *Meter) line() string {
	if m.outcome != "" {
		line := ": " + m.outcome
		if m.done > 0 {
			line += ", " + m.counted()
		}
		if m.also != "" {
			line += ", " + m.also
		}
		return line + fmt.Sprintf(" in %s", m.took)
	}
	line := ": " + m.counted()
	switch {
	case m.total > m.done:
		line = fmt.Sprintf(": %d of about %d %s (%d%%)", m.done, m.total, m.unit, 100*m.done/m.total)
	case m.done == 0: // what is done first says more
		line = ""
	}
	if m.also != "" {
		line += ", " + m.also
	}
	line += ", " + age(m.start).String()
	if rest := (m.left - time.Since(m.leftAt)).Round(time.Second); m.left > 0 && rest >= long {
		line += fmt.Sprintf(", about %s left", rest)
	}
	if m.doing != "" {
		line += ": " + m.doing
		if age(m.since) >= long && age(m.since) < age(m.start) {
			line += fmt.Sprintf(" (for %s)", age(m.since))
		}
	}
	return line
}

// print shows a plain line.
func (m *Meter) print() {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintln(m.w, m.title+m.line())
}

// inPlace is the line on a terminal, as mpb asks for it.
type inPlace struct {
	decor.WC
	m *Meter
}

// Decor cuts the line before it is coloured: mpb counts what sets a colour as if it
// were seen.
func (p *inPlace) Decor(s decor.Statistics) (string, int) {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	title := runewidth.Truncate(m.title, s.AvailableWidth, "…")
	line := runewidth.Truncate(m.line(), s.AvailableWidth-runewidth.StringWidth(title), "…")
	width := runewidth.StringWidth(title + line)
	if m.outcome != "" {
		line = strings.Replace(line, m.outcome, m.colour.Sprint(m.outcome), 1)
	}
	return m.bold.Sprint(title) + line, width
}

func age(start time.Time) time.Duration { return time.Since(start).Round(time.Second) }
