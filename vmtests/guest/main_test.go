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
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
)

// subject is the driver under test.
var subject = tun.Driver

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
