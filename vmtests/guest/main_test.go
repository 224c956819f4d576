// Package guest holds the tests that run inside the VM. The tests of the same
// names in vmtests run them and replay them on the host.
//
// To add a check, write a test here that makes a rig (see newRig) for the
// promises that it decides, and add its name to vmtests/contract_test.go.
package guest

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/driver/macvtap"
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/driver/veth"
)

// drivers are those that can be tested, as contract.Drivers names them.
var drivers = []*driver.Driver{tun.Driver, veth.Driver, macvtap.Driver}

// subject is the driver under test.
var subject = drivers[0]

// each runs a test of each driver that DRIVER asks for, under its name if there are
// more than one.
func each(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	name, err := contract.ParseDriver(os.Getenv("DRIVER"))
	if err != nil {
		t.Fatal(err)
	}
	for _, subject = range drivers {
		switch name {
		case contract.AllDrivers:
			t.Run(subject.Name, test)
		case subject.Name:
			test(t)
			return
		}
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(contract.GuestEnv) != "1" {
		fmt.Println("These tests change network devices and run inside a VM: go test ./vmtests runs them there.")
		// So that go test says "no tests to run", and not that all is well.
		flag.Parse()
		if err := flag.Set("test.run", "^$"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	os.Exit(m.Run())
}
