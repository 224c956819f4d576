package fault

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/inject/stage"
	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/guesttest"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
)

// fault is the one of that name.
func fault(name string) *driver.Fault {
	all := Faults(tun.Driver, tun.Reading)
	return all[slices.IndexFunc(all, func(f *driver.Fault) bool { return f.Name == name })]
}

// TestQdiscsOfADeviceWithoutRing: what a qdisc holds when the ring has slots again
// does not depend on that there were none when it was made.
func TestQdiscsOfADeviceWithoutRing(t *testing.T) {
	guesttest.Need(t, "holds up CPUs")
	for n, qdisc := range qdiscs {
		q, err := NewSequence(tun.Driver, false, tun.Reading)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		if err := errors.Join(q.Inject(fault("set tx_queue_len to"), 0), q.Inject(fault("replace the qdisc"), n)); err != nil {
			t.Fatal(err)
		}
		if result, err := q.Settle(stage.Patience); err != nil {
			t.Error(err)
		} else if promise, why := contract.Stock.Breach(&result.Seen); promise != "" {
			t.Errorf("%v: %s\n%s", qdisc, why, q.Script())
		}
	}
}

// TestAllocationsFail: allocations do fail, and the device is in order after it.
func TestAllocationsFail(t *testing.T) {
	guesttest.Need(t, "holds up CPUs")
	if missing := (*kernelfeature.MissingError)(nil); errors.As(CanFail(), &missing) {
		t.Skip("this kernel lacks ", missing.Option)
	}
	q, err := NewSequence(tun.Driver, false, tun.Reading)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for _, f := range Faults(tun.Driver, tun.Reading) {
		if !f.Failing {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			failed, refused := 0, 0
			for _, n := range f.Arguments {
				if strings.HasPrefix(f.Name, "attach") {
					if err := q.Inject(fault("detach the queue"), 0); err != nil {
						t.Fatal(err)
					}
				}
				if err := q.Inject(f, n); err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(q.Script(), "fewer") {
					failed++
				}
				if strings.Contains(q.Script(), "refused") {
					refused++
				}
				result, err := q.Settle(stage.Patience)
				if err != nil {
					t.Fatal(err)
				}
				if result.Stalled != "" || result.Unbalanced != nil {
					t.Fatalf("%s\nstalled: %s; %v", q.Script(), result.Stalled, result.Unbalanced)
				}
				if err := q.Restart(); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d allocations failed, and for %d of them it was refused", failed, refused)
			if failed == 0 {
				t.Error("no allocation failed")
			}
		})
	}
}
