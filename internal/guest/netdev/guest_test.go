package netdev

import (
	"errors"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// open makes a tap device with so many txqs, which tells nothing of a driver.
func open(t *testing.T, txqs int) *Device {
	t.Helper()
	guesttest.Need(t, "makes network devices")
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: "netdev0"}, Mode: netlink.TUNTAP_MODE_TAP, Queues: txqs,
		Flags: netlink.TUNTAP_MULTI_QUEUE_DEFAULTS | netlink.TUNTAP_NO_PI,
	}
	if err := netlink.LinkAdd(tap); err != nil {
		t.Fatal(err)
	}
	d, err := ByName("netdev0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
		for _, fd := range tap.Fds {
			fd.Close()
		}
	})
	if err := d.SetUp(true); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEveryQdiscCanBeSetAndRead(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	limits := map[Kind]Qdisc{
		TBF:   {Kind: TBF, Rate: 1e6, Burst: 3000, Delay: 10 * time.Millisecond},
		Netem: {Kind: Netem, Limit: 10, Delay: time.Millisecond, Rate: 1e6},
		FQ:    {Kind: FQ, Limit: 50, FlowLimit: 20},
		Pfifo: {Kind: Pfifo, Limit: 7},
		MQ:    {Kind: MQ, Leaf: &Qdisc{Kind: FQCodel, Limit: 30}},
	}
	d := open(t, 4)
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
				guesttest.NoError(t, err)
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
	guesttest.Need(t, "makes network devices")
	d := open(t, 1)
	unknown := netlink.QdiscAttrs{LinkIndex: d.index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	err := netlink.QdiscReplace(&netlink.GenericQdisc{QdiscAttrs: unknown, QdiscType: "of_tomorrow"})
	err = d.refused(Qdisc{Kind: FQ}, err)
	missing, ok := errors.AsType[*kernelfeature.MissingError](err)
	if !ok || missing.Option != "CONFIG_NET_SCH_FQ" {
		t.Errorf("%v, want a MissingError of CONFIG_NET_SCH_FQ", err)
	}
}

// What is made in a namespace is not seen outside, and the thread comes back.
func TestNamespace(t *testing.T) {
	guesttest.Need(t, "makes network devices")
	n, err := NewNamespace()
	guesttest.NoError(t, err)
	defer n.Close()
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "inside0"}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI}
	for _, f := range []func() error{
		func() error { return netlink.LinkAdd(tap) },
		func() error { _, err := ByName("inside0"); return err },
	} {
		if err := n.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ByName("inside0"); err == nil {
		t.Error("the device is seen outside")
	}
	if err := n.Do(func() error { return unix.EXFULL }); !errors.Is(err, unix.EXFULL) {
		t.Errorf("%v, want what the function returned", err)
	}
}
