package memory

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ringproof/ringproof/inject/disasm"
	"github.com/ringproof/ringproof/internal/guest/guesttest"
)

func TestMemory(t *testing.T) {
	guesttest.Need(t, "reads kernel memory")
	m, err := Open()
	guesttest.NoError(t, err)
	defer m.Close()
	f, err := disasm.Disassemble("tun_net_xmit")
	if err != nil {
		t.Fatal(err)
	}
	var want, got [16]byte
	at := f.Points[0].Addr
	if err := errors.Join(disasm.Read(at, want[:]), m.Read(at, got[:])); err != nil || !bytes.Equal(want[:], got[:]) {
		t.Errorf("tun_net_xmit begins with %x, and in /dev/mem with %x: %v", want, got, err)
	}
	// include/linux/poison.h: LIST_POISON1, which is mapped nowhere.
	for _, unmapped := range []uint64{0, 0xdead000000000100} {
		var not *NotMappedError
		if err := m.Read(unmapped, got[:]); !errors.As(err, &not) || not.Addr != unmapped {
			t.Errorf("read at %#x: %v", unmapped, err)
		}
		if err := m.Write(unmapped, got[:]); !errors.As(err, &not) {
			t.Errorf("write at %#x: %v", unmapped, err)
		}
	}
}
