// Package memory reads and writes the running kernel's memory, by the addresses that
// the kernel itself uses.
package memory

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// Memory is the kernel's memory, as far as it is mapped one to one: what kmalloc()
// returns, and the kernel's own image. Close it when done.
type Memory struct {
	fd    int // of /dev/mem
	spans []span
}

// span is a range of addresses, and the physical address at which it begins.
type span struct{ from, to, physical uint64 }

// NotMappedError says that no physical address is known for an address: vmalloc()
// has returned it, or a module is there.
type NotMappedError struct{ Addr uint64 }

func (e *NotMappedError) Error() string {
	return fmt.Sprintf("%#x is not in the kernel's direct map: it was made by vmalloc(), or a module is there", e.Addr)
}

// Open opens the kernel's memory. A kernel that lets nobody write it is a
// *kernelfeature.MissingError.
func Open() (_ *Memory, err error) {
	m := &Memory{}
	m.fd, err = unix.Open("/dev/mem", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, refused("CONFIG_DEVMEM", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	core, err := elf.Open("/proc/kcore")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refused("CONFIG_PROC_KCORE", err)
	}
	if err != nil {
		return nil, fmt.Errorf("find the kernel's memory: %w", err)
	}
	defer core.Close()
	// fs/proc/kcore.c: the physical address is all ones where there is none.
	var text *elf.Prog
	for _, p := range core.Progs {
		if p.Type != elf.PT_LOAD || p.Paddr == ^uint64(0) || p.Memsz == 0 {
			continue
		}
		m.spans = append(m.spans, span{p.Vaddr, p.Vaddr + p.Memsz, p.Paddr})
		if text == nil {
			text = p
		}
	}
	if text == nil {
		return nil, errors.New("find the kernel's memory: /proc/kcore gives no physical address")
	}
	// What is known of addresses is worth nothing unless both files agree.
	var want, got [64]byte
	at := text.Vaddr + text.Memsz/2
	if _, err := text.ReadAt(want[:], int64(text.Memsz/2)); err != nil {
		return nil, fmt.Errorf("read the kernel's memory at %#x from /proc/kcore: %w", at, err)
	}
	if err := m.Read(at, got[:]); errors.Is(err, unix.EPERM) {
		return nil, refused("CONFIG_STRICT_DEVMEM=n", err)
	} else if err != nil {
		return nil, err
	}
	if !bytes.Equal(want[:], got[:]) {
		return nil, fmt.Errorf("/proc/kcore and /dev/mem do not agree on what is at %#x: %x and %x", at, want, got)
	}
	return m, nil
}

func refused(option string, err error) error {
	if errors.Is(err, unix.EPERM) && option == "CONFIG_DEVMEM" {
		option = "lockdown=none" // include/linux/security.h: LOCKDOWN_DEV_MEM
	}
	return &kernelfeature.MissingError{Option: option, What: "kernel memory that can be written", Err: err}
}

// Close closes it.
func (m *Memory) Close() error { return unix.Close(m.fd) }

// physical is where the bytes at addr are.
func (m *Memory) physical(addr uint64, n int) (int64, error) {
	for _, s := range m.spans {
		if s.from <= addr && addr+uint64(n) <= s.to {
			return int64(addr - s.from + s.physical), nil
		}
	}
	return 0, &NotMappedError{addr}
}

// Read reads what is at addr.
func (m *Memory) Read(addr uint64, p []byte) error {
	at, err := m.physical(addr, len(p))
	if err != nil {
		return err
	}
	if n, err := unix.Pread(m.fd, p, at); err != nil || n != len(p) {
		return fmt.Errorf("read %d bytes of kernel memory at %#x: have %d: %w", len(p), addr, n, err)
	}
	return nil
}

// Write writes to addr, byte by byte: nobody else may be using it.
func (m *Memory) Write(addr uint64, p []byte) error {
	at, err := m.physical(addr, len(p))
	if err != nil {
		return err
	}
	if n, err := unix.Pwrite(m.fd, p, at); err != nil || n != len(p) {
		return fmt.Errorf("write %d bytes of kernel memory at %#x: have %d: %w", len(p), addr, n, err)
	}
	return nil
}
