package suite

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringproof/ringproof/internal/host/meter"
)

// TestProgressSaysWhatRuns: at each moment it is said what is being done, and how
// many checks are.
func TestProgressSaysWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shown strings.Builder
		events, w := io.Pipe()
		m := meter.New(&shown, "testing stock", "checks", 0)
		done := make(chan string)
		go func() { done <- follow(events, m) }()
		time.Sleep(5 * time.Second) // between two lines of the meter
		for _, event := range []string{
			"",
			`{"Action":"start","Package":"p"}` + "\n" + `{"Action":"run","Test":"TestNoStall"}`,
			`{"Action":"run","Test":"TestNoStall/len1"}`,
			`{"Action":"attr","Test":"TestNoStall/len1","Key":"no-stall","Value":"kept"}` + "\n" + `{"Action":"attr","Test":"TestNoStall/len1","Key":"other","Value":"1"}`,
			`{"Action":"pass","Test":"TestNoStall/len1"}`,
			`{"Action":"pass","Test":"TestNoStall"}` + "\n" + `{"Action":"output","Output":"PASS"}`,
		} {
			io.WriteString(w, event+"\n")
			synctest.Wait()
			time.Sleep(10 * time.Second)
		}
		w.Close()
		said := <-done
		m.End(true)
		const want = "testing stock, 10s: go test compiles the tests\n" +
			"testing stock, 20s: building what the VM runs, and booting it (for 5s)\n" +
			"testing stock, 30s: TestNoStall/len1 (for 5s)\n" +
			"testing stock: 1 checks, 40s: TestNoStall/len1 (for 15s)\n" +
			"testing stock: 1 checks, 50s: TestNoStall (for 5s)\n" +
			"testing stock: 1 checks, 1m0s: between two tests (for 5s)\n" +
			"testing stock: done, 1 checks in 1m5s\n"
		if shown.String() != want {
			t.Errorf("got\n%swant\n%s", shown.String(), want)
		}
		if said != "PASS" {
			t.Errorf("said %q", said)
		}
	})
}
