package kernel

import (
	"fmt"
	"path"
	"regexp"
	"runtime"
	"slices"
)

// architecture is one that kernels are built for and booted on.
type architecture struct {
	goarch   string // as Go calls it
	arch     string // ARCH= of make
	kconfig  string // its directory in arch/
	image    string // where make leaves the image, whose name is the make target
	fragment string // in kconfigs/, of what differs from base; "" if nothing does
	// prefix is the CROSS_COMPILE of Debian's compiler for it, and gcc and ld
	// are the packages that have those.
	prefix, gcc, ld string
	// compiles matches the machines of compilers for it (gcc -dumpmachine).
	compiles *regexp.Regexp
}

// The first is what is built without ARCH.
var architectures = []architecture{
	{
		goarch: "amd64", arch: "x86_64", kconfig: "x86", image: "arch/x86/boot/bzImage",
		prefix: "x86_64-linux-gnu-", gcc: "gcc", ld: "binutils",
		// gcc knows -m64 on each of them.
		compiles: regexp.MustCompile(`^(x86_64|i[3-6]86|amd64)\b`),
	},
	{
		goarch: "arm64", arch: "arm64", kconfig: "arm64", image: "arch/arm64/boot/Image", fragment: "arm64",
		prefix: "aarch64-linux-gnu-", gcc: "gcc-aarch64-linux-gnu", ld: "binutils-aarch64-linux-gnu",
		compiles: regexp.MustCompile(`^aarch64\b`),
	},
}

// native says whether the programs of this machine are its own.
func (a *architecture) native() bool { return a.goarch == runtime.GOARCH }

// imageFile is what make and the cache call the image.
func (a *architecture) imageFile() string { return path.Base(a.image) }

// targetArch is the architecture that ARCH asks for. One that is not built here is
// refused (refuse); until then it is the first.
func targetArch() *architecture {
	if a := byARCH(setting("ARCH")); a != nil {
		return a
	}
	return &architectures[0]
}

// byARCH finds an architecture by what ARCH may call it, which is also its
// directory (Makefile: SRCARCH); nil if there is none of that name.
func byARCH(name string) *architecture {
	i := slices.IndexFunc(architectures, func(a architecture) bool { return name == a.arch || name == a.kconfig })
	if i < 0 {
		return nil
	}
	return &architectures[i]
}

// byGOARCH finds one that there is.
func byGOARCH(name string) *architecture {
	return &architectures[slices.IndexFunc(architectures, func(a architecture) bool { return name == a.goarch })]
}

// Wanted is the architecture of the kernels that Build builds, as Go calls it: that
// of ARCH in the environment.
func Wanted() string { return targetArch().goarch }

// CheckHost says why a kernel of an architecture, as Go calls it, cannot be judged on
// this machine; nil if it can.
func CheckHost(guest string) error { return checkHost(runtime.GOARCH, guest) }

func checkHost(host, guest string) error {
	if host == "amd64" || host == guest {
		return nil
	}
	return fmt.Errorf("this machine is %s, and the kernel is for %s: QEMU cannot promise a guest the memory order of another architecture here, and a race that it adds would be a false alarm", host, guest)
}
