package gotest

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
		f := follower{meter: m, expect: expect([]string{"-run=^TestNoStall$|^TestFaults$"})}
		done := make(chan bool)
		go func() { f.follow(events); close(done) }()
		time.Sleep(5 * time.Second) // between two lines of the meter
		for _, event := range []string{
			"",
			`{"Action":"start","Package":"p"}` + "\n" + `{"Action":"run","Test":"TestNoStall"}`,
			`{"Action":"run","Test":"TestNoStall/len1"}`,
			`{"Action":"attr","Test":"TestNoStall/len1","Key":"no-stall","Value":"kept"}` + "\n" + `{"Action":"attr","Test":"TestNoStall/len1","Key":"other","Value":"1"}`,
			`{"Action":"attr","Test":"TestNoStall/len1","Key":"ringproof.at","Value":"{\"Doing\":\"x\",\"Schedules\":30}"}`,
			`{"Action":"attr","Test":"TestNoStall/len1","Key":"ringproof.at","Value":"{\"Doing\":\"x\",\"Schedules\":150}"}` + "\n" + `{"Action":"attr","Test":"TestNoStall/len1","Key":"ringproof.at","Value":"{\"Doing\":\"in another guest\",\"Schedules\":20}"}` + "\n" + `{"Action":"attr","Test":"TestNoStall/len1","Key":"ringproof.packets","Value":"4200"}`,
			`{"Action":"pass","Test":"TestNoStall/len1"}`,
			`{"Action":"pass","Test":"TestNoStall"}` + "\n" + `{"Action":"output","Output":"PASS"}`,
		} {
			io.WriteString(w, event+"\n")
			synctest.Wait()
			time.Sleep(10 * time.Second)
		}
		w.Close()
		<-done
		m.End(true)
		const want = "testing stock, 10s: go test compiles the tests\n" +
			"testing stock, 20s: building what the VM runs, and booting it (for 5s)\n" +
			"testing stock, 30s: TestNoStall/len1 (for 5s)\n" +
			"testing stock: 1 check, 40s: TestNoStall/len1 (for 15s)\n" +
			"testing stock: 1 check, 30 schedules, 50s, about 13s left: TestNoStall/len1 (for 25s)\n" +
			"testing stock: 1 check, 170 schedules (14/s), 4200 packets, 1m0s, about 6s left: TestNoStall/len1 (for 35s)\n" +
			"testing stock: 1 check, 170 schedules (14/s), 4200 packets, 1m10s: TestNoStall (for 5s)\n" +
			"testing stock: 1 check, 170 schedules (14/s), 4200 packets, 1m20s, about 13s left: between two tests (for 5s)\n" +
			"testing stock: done, 1 check, 170 schedules (14/s), 4200 packets in 1m25s\n"
		if shown.String() != want {
			t.Errorf("got\n%swant\n%s", shown.String(), want)
		}
		if said := f.said.String(); said != "PASS" {
			t.Errorf("said %q", said)
		}
	})
}
