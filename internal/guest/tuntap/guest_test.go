package tuntap

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/netdev"
	"golang.org/x/sys/unix"
)

func open(t *testing.T, cfg Config) *Device {
	t.Helper()
	d, err := Open(cfg)
	guesttest.NoError(t, err)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestDevicesAreAsConfigured(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	for _, mode := range []Mode{TUN, TAP} {
		for _, queues := range []int{1, 4} {
			for _, length := range []int{0, 1, 500, 1000} {
				t.Run(fmt.Sprintf("%v/%d queues/ring %d", mode, queues, length), func(t *testing.T) {
					d := open(t, Config{Mode: mode, Queues: queues, TxQueueLen: &length, Qdisc: netdev.Qdisc{Kind: netdev.Noqueue}})
					if n := len(d.Queues()); n != queues {
						t.Errorf("%d queues, want %d", n, queues)
					}
					text, err := os.ReadFile("/sys/class/net/" + d.Name() + "/tx_queue_len")
					if err != nil || string(text) != fmt.Sprintln(length) {
						t.Errorf("tx_queue_len %q, %v; want %d", text, err, length)
					}
					text, err = os.ReadFile("/sys/class/net/" + d.Name() + "/flags")
					var flags int
					if _, scanErr := fmt.Sscan(string(text), &flags); err != nil || scanErr != nil || flags&unix.IFF_NOARP == 0 || flags&unix.IFF_MULTICAST != 0 || flags&unix.IFF_UP == 0 {
						t.Errorf("flags %q, %v; want up, no ARP, no multicast", text, err)
					}
				})
			}
		}
	}
}

func TestQueuesDetachAndAttach(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	d := open(t, Config{Mode: TUN, MultiQueue: true})
	for range 2 {
		if err := d.Detach(0); err != nil {
			t.Fatal(err)
		}
		if err := d.Detach(0); !errors.Is(err, unix.EINVAL) {
			t.Errorf("detached twice: %v, want EINVAL", err)
		}
		if err := d.Attach(0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPersistentDeviceCanBeReopened(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	d := open(t, Config{Mode: TAP, Name: "kept0"})
	if err := d.SetPersist(true); err != nil {
		t.Fatal(err)
	}
	if err := d.CloseQueue(0); err != nil {
		t.Fatal(err)
	}
	again := open(t, Config{Mode: TAP, Name: "kept0"})
	if again.Ifindex() != d.Ifindex() {
		t.Errorf("reopened device %d, want %d", again.Ifindex(), d.Ifindex())
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/sys/class/net/kept0"); err == nil {
		t.Error("the device outlived Close")
	}
}

func TestCloseWakesABlockedReader(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	d := open(t, Config{Mode: TUN})
	fd := d.Queues()[0]
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	woken := make(chan error)
	go func() {
		_, err := unix.Read(fd, make([]byte, 100))
		woken <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-woken:
		if !errors.Is(err, unix.EFAULT) && !errors.Is(err, unix.EBADFD) {
			t.Errorf("the read returned %v, want EFAULT", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the read still blocks")
	}
}

func TestFeatures(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	features, err := Features()
	if err != nil || features&unix.IFF_MULTI_QUEUE == 0 {
		t.Errorf("features %#x, %v; want IFF_MULTI_QUEUE among them", features, err)
	}
}

// A device that nothing is sent through carries nothing: no router
// solicitation, no multicast report. These come within three seconds.
func TestTheKernelSendsNothingOfItsOwn(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	devices := []*Device{open(t, Config{Mode: TUN, Qdisc: netdev.Qdisc{Kind: netdev.PfifoFast}}), open(t, Config{Mode: TAP, Qdisc: netdev.Qdisc{Kind: netdev.PfifoFast}})}
	for _, d := range devices {
		for _, up := range []bool{false, true} {
			if err := d.SetUp(up); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(3 * time.Second)
	for _, d := range devices {
		if n, err := unix.Read(d.Queues()[0], make([]byte, 2000)); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%v: read %d bytes, %v; want nothing", d.Mode(), n, err)
		}
		stats, err := d.Stats()
		if err != nil || stats != (netdev.Stats{}) {
			t.Errorf("%v: %+v, %v; want all zero", d.Mode(), stats, err)
		}
	}
}
