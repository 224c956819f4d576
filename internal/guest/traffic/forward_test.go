package traffic

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestForwarder: what is forwarded are whole packets in their order, and it ends when
// one side is gone.
func TestForwarder(t *testing.T) {
	var from, to [2]int
	for _, pair := range []*[2]int{&from, &to} {
		var err error
		if *pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
	}
	f, err := StartForwarder(from[1], to[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, fd := range []int{from[0], from[1], to[0]} {
			unix.Close(fd)
		}
	}()
	const packets = 1000
	go func() {
		for n := range packets {
			unix.Write(from[0], bytes.Repeat([]byte{byte(n)}, n+1))
		}
	}()
	buf := make([]byte, 2*packets)
	for n := range packets {
		got, err := unix.Read(to[1], buf)
		if err != nil {
			t.Fatal(err)
		}
		if want := bytes.Repeat([]byte{byte(n)}, n+1); !bytes.Equal(buf[:got], want) {
			t.Fatalf("packet %d came with %d bytes, or others", n, got)
		}
	}
	unix.Close(to[1])
	unix.Write(from[0], []byte{0})
	select {
	case <-f.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on although nobody can receive")
	}
	if f.Packets() != packets || f.Err() == nil || !strings.Contains(f.Err().Error(), "write: connection refused") {
		t.Errorf("%d packets, %v", f.Packets(), f.Err())
	}
}
