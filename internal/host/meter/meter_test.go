package meter

import (
	"bufio"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"
)

func TestProgressIsPlainLinesOffATerminal(t *testing.T) {
	t.Setenv("CLICOLOR_FORCE", "1") // which is about terminals
	synctest.Test(t, func(t *testing.T) {
		var progress strings.Builder
		m := New(&progress, "building base", "steps", 10)
		time.Sleep(time.Second)
		for _, step := range []func(){
			func() {},
			func() { m.Doing("make looks at what has changed") },
			func() { m.Doing("CC a.o"); m.Add(1) },
			func() { m.Doing("CC a.o"); m.Also("2 warnings") },
			func() { m.Set(4) },
			func() { m.Left(7 * time.Second) },
			func() {},
			func() { m.Set(11) },
		} {
			step()
			time.Sleep(everyPlain)
		}
		m.End(true)
		m = New(&progress, "configuring base", "targets", 0)
		m.End(false)
		const want = "building base: 0 of about 10 steps (0%), 10s\n" +
			"building base: 0 of about 10 steps (0%), 20s: make looks at what has changed (for 9s)\n" +
			"building base: 1 of about 10 steps (10%), 30s, about 3m0s left: CC a.o (for 9s)\n" +
			"building base: 1 of about 10 steps (10%), 2 warnings, 40s, about 2m50s left: CC a.o (for 19s)\n" +
			"building base: 4 of about 10 steps (40%), 2 warnings, 50s, about 53s left: CC a.o (for 29s)\n" +
			"building base: 4 of about 10 steps (40%), 2 warnings, 1m0s: CC a.o (for 39s)\n" +
			"building base: 4 of about 10 steps (40%), 2 warnings, 1m10s: CC a.o (for 49s)\n" +
			"building base: 11 steps, 2 warnings, 1m20s: CC a.o (for 59s)\n" +
			"building base: done, 11 steps, 2 warnings in 1m21s\n" +
			"configuring base: not finished in 0s\n"
		if progress.String() != want {
			t.Errorf("got\n%swant\n%s", progress.String(), want)
		}
	})
}

// TestProgressOnATerminal: one line is shown in place, no longer than the terminal
// is wide, and what is left on the screen is the outcome.
func TestProgressOnATerminal(t *testing.T) {
	for _, tt := range []struct {
		name          string
		term, noColor string
		rows          uint16
		live, colour  bool
	}{
		{"colours", "xterm", "", 24, true, true},
		{"NO_COLOR", "xterm", "1", 24, true, false},
		{"a terminal that cannot move its cursor", "dumb", "", 24, false, false},
		{"a terminal of no lines", "xterm", "", 0, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TERM", tt.term)
			t.Setenv("NO_COLOR", tt.noColor)
			screen, tty, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer screen.Close()
			if err := pty.Setsize(tty, &pty.Winsize{Rows: tt.rows, Cols: 60}); err != nil {
				t.Fatal(err)
			}
			shown := make(chan string)
			go func() {
				text, _ := bufio.NewReader(screen).ReadString(0)
				shown <- text
			}()
			m := New(tty, "testing stock", "checks", 0)
			m.Add(7)
			m.Doing("TestSchedules/" + strings.Repeat("a-name-that-is-long/", 5))
			time.Sleep(everyLive + everyLive/2)
			m.End(true)
			if _, err := tty.WriteString("\x00"); err != nil {
				t.Fatal(err)
			}
			text := <-shown
			if live := strings.Contains(stripped(text), "testing stock: 7 checks, 1s: TestSchedules"); live != tt.live {
				t.Errorf("live is %v: %q", live, text)
			}
			bold := strings.Contains(text, "\x1b[1mtesting stock\x1b[22m: 7 checks, 1s: Test")
			if colour := bold && strings.Contains(text, "\x1b[32mdone\x1b["); colour != tt.colour {
				t.Errorf("colour is %v: %q", colour, text)
			}
			for line := range strings.SplitSeq(text, "\n") {
				if plain := stripped(line); len([]rune(plain)) > 60 {
					t.Errorf("%d columns of 60: %q", len([]rune(plain)), line)
				}
			}
			last := strings.Split(strings.TrimRight(text, "\x00\r\n"), "\n")
			if end := stripped(last[len(last)-1]); strings.TrimSpace(end) != "testing stock: done, 7 checks in 2s" && strings.TrimSpace(end) != "testing stock: done, 7 checks in 1s" {
				t.Errorf("what is left on the screen is %q", end)
			}
		})
	}
}

// stripped is a line without what moves the cursor and sets colours (ECMA-48, 5.4:
// a control sequence ends with a byte from 0x40 on).
func stripped(line string) string {
	var plain strings.Builder
	for line != "" {
		before, after, found := strings.Cut(line, "\x1b[")
		plain.WriteString(before)
		if !found {
			break
		}
		end := strings.IndexFunc(after, func(r rune) bool { return r >= 0x40 && r <= 0x7e })
		line = after[end+1:]
	}
	return strings.TrimRight(plain.String(), "\r\x00")
}
