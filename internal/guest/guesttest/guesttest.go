// Package guesttest has what the tests of the guest's packages share. These tests run
// in the VM, and skip elsewhere.
package guesttest

import (
	"errors"
	"os"
	"testing"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
)

// Need skips a test outside the VM, for it does what may only be done there:
// "makes network devices".
func Need(t testing.TB, does string) {
	t.Helper()
	if os.Getenv(contract.GuestEnv) == "" {
		t.Skipf("%s: runs in the VM only (%s is not set)", does, contract.GuestEnv)
	}
}

// NoError ends the test if err is not nil: as skipped if the kernel lacks
// something, else as failed.
func NoError(t testing.TB, err error) {
	t.Helper()
	if missing, ok := errors.AsType[*kernelfeature.MissingError](err); ok {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
}
