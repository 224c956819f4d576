package guest

import (
	"runtime"
	"testing"

	"github.com/ringproof/ringproof/internal/guest/tuntap"
	"golang.org/x/sys/unix"
)

// TestKernel says what booted, and decides nothing: the quickest way to see
// that a kernel gets as far as its first test.
func TestKernel(t *testing.T) {
	begin(t)
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s, %d CPUs", unix.ByteSliceToString(uts.Release[:]), unix.ByteSliceToString(uts.Version[:]), runtime.NumCPU())
	features, err := tuntap.Features()
	if err != nil {
		t.Logf("no tun: %v", err)
		return
	}
	t.Logf("contract %s (TUNGETFEATURES %#x)", contractOf(t), features)
}
