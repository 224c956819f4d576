package kernel

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bzImage makes the least file that has the header of one.
func bzImage() []byte {
	b := make([]byte, 8192)
	b[0x1f1] = 3
	binary.LittleEndian.PutUint32(b[0x1f4:], (8192-4*512)/16)
	b[0x1fe], b[0x1ff] = 0x55, 0xaa
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	b[0x211] = 1
	b[0x236] = 0x7f
	binary.LittleEndian.PutUint32(b[0x238:], 2047)
	binary.LittleEndian.PutUint16(b[0x20e:], 0x400)
	copy(b[0x600:], "6.12.0-rt (nobody@localhost) #1 SMP\x00")
	return b
}

// arm64Image makes the least file that has the header of an Image.
func arm64Image() []byte {
	b := make([]byte, 8192)
	copy(b[0x38:], "ARM\x64")
	copy(b[0x400:], "Linux version %s\x00Linux version 6.12.0-rt (nobody@localhost) (gcc) #1 SMP\n\x00")
	return b
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestInspectTellsWhatAFileIs(t *testing.T) {
	dir := t.TempDir()
	with := func(change func(b []byte)) []byte {
		b := bzImage()
		change(b)
		return b
	}
	elf := func(machine byte) []byte {
		b := make([]byte, 4096)
		copy(b, "\x7fELF\x02\x01\x01")
		b[18] = machine
		return b
	}
	at := func(off int, magic string) []byte {
		b := make([]byte, 4096)
		copy(b[off:], magic)
		return b
	}
	bigEndian := arm64Image()
	bigEndian[0x18] = 1
	for name, tc := range map[string]struct {
		content []byte
		want    string // in the error; "" for none
	}{
		"good":                          {bzImage(), ""},
		"signed":                        {append(bzImage(), "signature"...), ""},
		"empty":                         {nil, "is empty"},
		"text":                          {[]byte("hello\n"), "not a kernel"},
		"long text":                     {[]byte(strings.Repeat("hello\n", 1000)), "not a kernel"},
		"boot disk":                     {with(func(b []byte) { copy(b[0x202:], "GRUB") }), "not a kernel"},
		"cut off":                       {bzImage()[:5000], "cut off: 5000 bytes of at least 8192"},
		"cut early":                     {bzImage()[:0x210], "not a kernel"},
		"i386":                          {with(func(b []byte) { b[0x236] = 0 }), "32-bit x86"},
		"old":                           {with(func(b []byte) { b[0x206] = 0x0a }), "older than 3.8"},
		"zImage":                        {with(func(b []byte) { b[0x211] = 0 }), "zImage"},
		"vmlinux":                       {elf(62), "give the bzImage"},
		"vmlinux of arm64":              {elf(183), "give the Image"},
		"s390 ELF":                      {elf(22), "EM_S390"},
		"arm64":                         {arm64Image(), ""},
		"arm64, compressed":             {gzipped(t, arm64Image()), ""},
		"arm64, compressed and cut off": {gzipped(t, arm64Image())[:40], "damaged"},
		"arm64, big-endian":             {bigEndian, "little-endian"},
		"arm64 zboot":                   {at(0, "MZ\x00\x00zimg"), "CONFIG_EFI_ZBOOT"},
		"riscv":                         {at(0x38, "RSC\x05"), "RISC-V"},
		"arm":                           {at(0x24, "\x18\x28\x6f\x01"), "32-bit ARM"},
		"gzip":                          {gzipped(t, bzImage()), "decompress it first"},
		"no gzip":                       {at(0, "\x1f\x8b\x09"), "damaged"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, tc.content, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Inspect(path)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var ie *ImageError
		if !errors.As(err, &ie) || ie.Path != path || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %q", name, err, tc.want)
		}
	}
	if _, err := Inspect(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Inspect(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	if _, err := Inspect("/dev/null"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("/dev/null: %v", err)
	}
}

func TestInspectReadsTheHeader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bzImage")
	for _, tt := range []struct {
		name   string
		change func(b []byte)
		want   Image
	}{
		{"all", func([]byte) {}, Image{"amd64", "6.12.0-rt", 2047}},
		{"no release", func(b []byte) { b[0x20e], b[0x20f] = 0, 0 }, Image{"amd64", "", 2047}},
		{"release beyond the end", func(b []byte) { b[0x20f] = 0xff }, Image{"amd64", "", 2047}},
		{"another limit", func(b []byte) { b[0x239] = 0 }, Image{"amd64", "6.12.0-rt", 255}},
	} {
		b := bzImage()
		tt.change(b)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := Inspect(path); err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
	for name, content := range map[string][]byte{"arm64": arm64Image(), "arm64, compressed": gzipped(t, arm64Image())} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := Inspect(path); err != nil || got != (Image{"arm64", "6.12.0-rt", 2047}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestHostsAndGuests: a host judges what has its own memory order, and an x86-64 host
// any, for none is stronger.
func TestHostsAndGuests(t *testing.T) {
	for _, of := range [][2]string{{"amd64", "amd64"}, {"amd64", "arm64"}, {"arm64", "arm64"}} {
		if err := checkHost(of[0], of[1]); err != nil {
			t.Error(err)
		}
	}
	if err := checkHost("arm64", "amd64"); err == nil || !strings.Contains(err.Error(), "this machine is arm64") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v; want one sentence", err)
	}
}
