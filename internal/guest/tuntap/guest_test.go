package tuntap

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// needGuest keeps tests that make devices away from the host.
func needGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("RINGPROOF_GUEST") == "" {
		t.Skip("makes network devices: runs in the VM only (RINGPROOF_GUEST is not set)")
	}
}

func open(t *testing.T, cfg Config) *Device {
	t.Helper()
	d, err := Open(cfg)
	if missing, ok := errors.AsType[*MissingError](err); ok {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestDevicesAreAsConfigured(t *testing.T) {
	needGuest(t)
	for _, mode := range []Mode{TUN, TAP} {
		for _, queues := range []int{1, 4} {
			for _, length := range []int{0, 1, 500, 1000} {
				t.Run(fmt.Sprintf("%v/%d queues/ring %d", mode, queues, length), func(t *testing.T) {
					d := open(t, Config{Mode: mode, Queues: queues, TxQueueLen: &length, Qdisc: Qdisc{Kind: Noqueue}})
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

func TestEveryQdiscCanBeSetAndRead(t *testing.T) {
	needGuest(t)
	limits := map[Kind]Qdisc{
		TBF:   {Kind: TBF, Rate: 1e6, Burst: 3000, Delay: 10 * time.Millisecond},
		Netem: {Kind: Netem, Limit: 10, Delay: time.Millisecond, Rate: 1e6},
		FQ:    {Kind: FQ, Limit: 50, FlowLimit: 20},
		Pfifo: {Kind: Pfifo, Limit: 7},
		MQ:    {Kind: MQ, Leaf: &Qdisc{Kind: FQCodel, Limit: 30}},
	}
	d := open(t, Config{Mode: TAP, Queues: 4})
	for _, kind := range []Kind{Noqueue, PfifoFast, Pfifo, FQ, FQCodel, MQ, TBF, Netem} {
		t.Run(string(kind), func(t *testing.T) {
			variants := []Qdisc{{Kind: kind}}
			if q, ok := limits[kind]; ok {
				variants = append(variants, q, q)
			}
			if kind == TBF {
				variants = variants[1:]
			}
			for _, q := range variants {
				err := d.SetQdisc(q)
				if missing, ok := errors.AsType[*MissingError](err); ok {
					t.Skip(missing)
				}
				if err != nil {
					t.Fatal(err)
				}
				stats, err := d.QdiscStats()
				if err != nil {
					t.Fatal(err)
				}
				if len(stats) == 0 || stats[0].Kind != kind || stats[0].Parent != "root" {
					t.Fatalf("set %v and found %+v", q, stats)
				}
				if kind != MQ {
					continue
				}
				leaf := PfifoFast
				if q.Leaf != nil {
					leaf = q.Leaf.Kind
				}
				if len(stats) != 5 || stats[1].Kind != leaf {
					t.Errorf("set %v and found %+v, want 4 leaves of kind %s", q, stats, leaf)
				}
			}
		})
	}
}

func TestAnUnknownQdiscNamesTheOption(t *testing.T) {
	needGuest(t)
	d := open(t, Config{Mode: TUN})
	unknown := netlink.QdiscAttrs{LinkIndex: d.index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	err := netlink.QdiscReplace(&netlink.GenericQdisc{QdiscAttrs: unknown, QdiscType: "of_tomorrow"})
	err = d.refused(Qdisc{Kind: FQ}, err)
	missing, ok := errors.AsType[*MissingError](err)
	if !ok || missing.Option != "CONFIG_NET_SCH_FQ" {
		t.Errorf("%v, want a MissingError of CONFIG_NET_SCH_FQ", err)
	}
}

func TestQueuesDetachAndAttach(t *testing.T) {
	needGuest(t)
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
	needGuest(t)
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
	needGuest(t)
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
	needGuest(t)
	features, err := Features()
	if err != nil || features&unix.IFF_MULTI_QUEUE == 0 {
		t.Errorf("features %#x, %v; want IFF_MULTI_QUEUE among them", features, err)
	}
}

// A device that nothing is sent through carries nothing: no router
// solicitation, no multicast report. These come within three seconds.
func TestTheKernelSendsNothingOfItsOwn(t *testing.T) {
	needGuest(t)
	devices := []*Device{open(t, Config{Mode: TUN, Qdisc: Qdisc{Kind: PfifoFast}}), open(t, Config{Mode: TAP, Qdisc: Qdisc{Kind: PfifoFast}})}
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
		if err != nil || stats != (Stats{}) {
			t.Errorf("%v: %+v, %v; want all zero", d.Mode(), stats, err)
		}
	}
}
