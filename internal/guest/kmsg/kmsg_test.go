package kmsg

import (
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/guesttest"
)

func TestParseRecord(t *testing.T) {
	for _, test := range []struct {
		in   string
		want Record
	}{
		{"6,339,5140900,-;NET: Registered PF_PACKET\n", Record{6, 339, 5140900 * time.Microsecond, "NET: Registered PF_PACKET"}},
		{"30,340,5690716,-;a daemon's line; with a semicolon\n", Record{6, 340, 5690716 * time.Microsecond, "a daemon's line; with a semicolon"}},
		{"3,341,7,c,caller=T1;text\n SUBSYSTEM=net\n DEVICE=n2\n", Record{3, 341, 7 * time.Microsecond, "text"}},
	} {
		if got, err := parse(test.in); err != nil || got != test.want {
			t.Errorf("%q: have %v, %v, want %v", test.in, got, err, test.want)
		}
	}
	for _, in := range []string{"", "text", "6,7;text", "6,x,9,-;text"} {
		if got, err := parse(in); err == nil {
			t.Errorf("%q: have %v, want an error", in, got)
		}
	}
}

func TestAsksToQueueIsOfOneDevice(t *testing.T) {
	records := []Record{
		{Text: "Virtual device tun0 asks to queue packet!"},
		{Text: "Virtual device tun01 asks to queue packet!"},
		{Text: "net_ratelimit: 5 callbacks suppressed"},
		{Text: "Virtual device tun0 asks to queue packet!"},
	}
	if n := AsksToQueue(records, "tun0"); n != 2 {
		t.Errorf("have %d, want 2", n)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	guesttest.Need(t, "writes to the kernel log")
	if err := Write("<5>before\n"); err != nil {
		t.Fatal(err)
	}
	log, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if records, err := log.Read(); err != nil || len(records) != 0 {
		t.Errorf("nothing new: have %v, %v", records, err)
	}
	if err := Write(contract.MarkBegin(t.Name())); err != nil {
		t.Fatal(err)
	}
	records, err := log.Read()
	if err != nil || len(records) != 1 {
		t.Fatalf("one record: have %v, %v", records, err)
	}
	if test, begin, ok := contract.ParseMark(records[0].Text); !ok || !begin || test != t.Name() || records[0].Level != 3 {
		t.Errorf("not the mark that was written: %+v", records[0])
	}
	// Nothing that is lost is lost unseen.
	line := "<7>" + strings.Repeat("x", 900) + "\n"
	for range 2000 {
		if err := Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := log.Read(); err != ErrOverrun {
		t.Errorf("2000 lines of 900 bytes: have %v, want %v", err, ErrOverrun)
	}
}
