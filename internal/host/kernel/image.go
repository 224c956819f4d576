package kernel

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// ImageError says why a file cannot be booted as a kernel.
type ImageError struct {
	Path string
	What string // what the file is
	Do   string // what to give instead; "" if What says it all
	Err  error  // set when the file could not be read, for errors.Is
}

func (e *ImageError) Error() string {
	s := fmt.Sprintf("kernel %s: %s", e.Path, e.What)
	if e.Do != "" {
		s += "; " + e.Do
	}
	return s
}

func (e *ImageError) Unwrap() error { return e.Err }

const (
	giveBzImage = "give the bzImage that the build left in arch/x86/boot/bzImage"
	giveImage   = "give the Image that the build left in arch/arm64/boot/Image"
)

// Image is what a kernel says of itself before it is booted.
type Image struct {
	// Arch is the architecture of the guest, as Go calls it.
	Arch string
	// Release is what uname -r will show; "" if the kernel does not say.
	Release string
	// CommandLine is how many bytes of a command line it takes.
	CommandLine int
}

// ARCH is the same as the kernel's make calls it.
func (i Image) ARCH() string { return byGOARCH(i.Arch).arch }

// Inspect reads the header of a kernel: a bzImage for x86-64, or an Image or Image.gz
// for arm64. If path is none, the error is an *ImageError.
//
// The offsets of a bzImage are those of Documentation/arch/x86/boot.rst, "The
// Real-Mode Kernel Header".
func Inspect(path string) (Image, error) {
	image := Image{Arch: "amd64"}
	fail := func(what, do string) (Image, error) {
		return image, &ImageError{Path: path, What: what, Do: do}
	}

	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return image, &ImageError{path, "there is no such file", giveBzImage, err}
	}
	if err != nil {
		return image, &ImageError{path, "cannot be read: " + errno(err), "", err}
	}
	if fi.IsDir() {
		return fail("is a directory", giveBzImage)
	}
	if !fi.Mode().IsRegular() {
		return fail("is not a regular file", giveBzImage)
	}
	f, err := os.Open(path)
	if err != nil {
		return image, &ImageError{path, "cannot be read: " + errno(err), "", err}
	}
	defer f.Close()
	header := make([]byte, 0x268) // up to and with handover_offset
	n, err := io.ReadFull(f, header)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return image, &ImageError{path, "cannot be read: " + errno(err), "", err}
	}
	header = header[:n]
	if n == 0 {
		return fail("is empty", giveBzImage)
	}
	if bytes.HasPrefix(header, []byte(gzipMagic)) || isARM64(header) {
		return inspectARM64(path, f)
	}
	if what, do := foreign(header); what != "" {
		return fail(what, do)
	}
	// boot_flag and header.
	if n < cap(header) || !bytes.Equal(header[0x1fe:0x200], []byte{0x55, 0xaa}) || string(header[0x202:0x206]) != "HdrS" {
		return fail("is not a kernel: it lacks the boot header of a bzImage", giveBzImage)
	}
	// xloadflags is there since protocol 2.12; bit 0 is XLF_KERNEL_64.
	if version := binary.LittleEndian.Uint16(header[0x206:]); version < 0x20c {
		return fail(fmt.Sprintf("is a kernel older than 3.8 (boot protocol %d.%02d)", version>>8, version&0xff), giveBzImage)
	}
	if binary.LittleEndian.Uint16(header[0x236:])&1 == 0 {
		return fail("is a 32-bit x86 kernel", "the guest is x86-64: build it with CONFIG_64BIT=y")
	}
	// loadflags bit 0 is LOADED_HIGH: a bzImage, not a zImage.
	if header[0x211]&1 == 0 {
		return fail("is a zImage", giveBzImage)
	}
	// The real-mode part has setup_sects sectors (0 means 4) after the boot
	// sector, the rest is syssize paragraphs of 16 bytes.
	sects := int64(header[0x1f1])
	if sects == 0 {
		sects = 4
	}
	whole := (sects+1)*512 + 16*int64(binary.LittleEndian.Uint32(header[0x1f4:]))
	if fi.Size() < whole {
		return fail(fmt.Sprintf("is cut off: %d bytes of at least %d", fi.Size(), whole), "copy or build it again")
	}
	image.CommandLine = int(binary.LittleEndian.Uint32(header[0x238:]))
	// kernel_version is where, behind the boot sector, a string is that begins
	// with the release; 0 if there is none.
	if at := int64(binary.LittleEndian.Uint16(header[0x20e:])); at != 0 {
		text := make([]byte, 128)
		n, err := f.ReadAt(text, 0x200+at)
		if err != nil && err != io.EOF {
			return image, &ImageError{path, "cannot be read: " + errno(err), "", err}
		}
		if words := strings.FieldsFunc(string(text[:n]), func(r rune) bool { return r <= ' ' }); len(words) > 0 && text[0] > ' ' {
			image.Release = words[0]
		}
	}
	return image, nil
}

// gzipMagic begins what gzip has compressed (RFC 1952, 2.3.1).
const gzipMagic = "\x1f\x8b"

// isARM64 says whether an Image begins so (Documentation/arch/arm64/booting.rst, "Call
// the kernel image").
func isARM64(header []byte) bool {
	return len(header) >= 0x40 && string(header[0x38:0x3c]) == "ARM\x64"
}

// banner is what the kernel prints first (init/version.c: linux_banner).
var banner = regexp.MustCompile(`Linux version (\d[^ ]*) `)

// inspectARM64 reads an Image, which gzip may have compressed: QEMU takes both. Its
// header says nothing of the release, so that is looked for.
func inspectARM64(path string, f *os.File) (Image, error) {
	// arch/arm64/include/uapi/asm/setup.h: COMMAND_LINE_SIZE, with the zero.
	image := Image{Arch: "arm64", CommandLine: 2047}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxARM64))
	if err != nil {
		return image, &ImageError{path, "cannot be read: " + errno(err), "", err}
	}
	if bytes.HasPrefix(data, []byte(gzipMagic)) {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err == nil {
			data, err = io.ReadAll(io.LimitReader(z, maxARM64))
		}
		if err != nil {
			return image, &ImageError{path, "is compressed by gzip, and damaged: " + err.Error(), "copy or build it again", err}
		}
		if !isARM64(data) {
			return image, &ImageError{path, "is compressed by gzip", "if there is a bzImage in it, decompress it first; " + giveBzImage, nil}
		}
	}
	// flags bit 0 is the kernel's endianness.
	if data[0x18]&1 != 0 {
		return image, &ImageError{path, "is a big-endian arm64 kernel", "the guest's programs are little-endian: build it with CONFIG_CPU_LITTLE_ENDIAN=y", nil}
	}
	if m := banner.FindSubmatch(data); m != nil {
		image.Release = string(m[1])
	}
	return image, nil
}

// maxARM64 bounds what is read of an Image, and is what QEMU takes of one
// (include/hw/loader.h: LOAD_IMAGE_MAX_GUNZIP_BYTES).
const maxARM64 = 256 << 20

const onlyThese = "kernels are judged on x86-64 and arm64"

// foreign recognises what people give instead of a kernel.
func foreign(header []byte) (what, do string) {
	at := func(off int, magic string) bool {
		return len(header) >= off+len(magic) && string(header[off:off+len(magic)]) == magic
	}
	switch {
	case at(0, elf.ELFMAG):
		if len(header) < 20 {
			return "is an ELF file that is cut off", giveBzImage
		}
		machine := elf.Machine(binary.LittleEndian.Uint16(header[18:]))
		if machine == elf.EM_X86_64 {
			return "is an ELF file: a vmlinux, which QEMU boots only with Xen's PVH entry", giveBzImage + ", and this file as VMLINUX"
		}
		if machine == elf.EM_AARCH64 {
			return "is an ELF file: a vmlinux of arm64", giveImage + ", and this file as VMLINUX"
		}
		return fmt.Sprintf("is an ELF file for %v", machine), onlyThese
	case at(0, "MZ") && at(4, "zimg"): // drivers/firmware/efi/libstub/zboot-header.S
		return "is a kernel that decompresses itself under EFI (CONFIG_EFI_ZBOOT), which QEMU has not", giveImage
	case at(0x38, "RSC\x05"): // Documentation/arch/riscv/boot-image-header.rst
		return "is a RISC-V kernel", onlyThese
	case at(0x24, "\x18\x28\x6f\x01"): // arch/arm/boot/compressed/head.S: _magic_sig
		return "is a 32-bit ARM kernel", onlyThese
	}
	return "", ""
}

// errno is the reason in err without the path that it repeats.
func errno(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
