package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Package is a Debian package that a build needs and that is not installed.
type Package struct {
	Name string // as apt-get knows it
	Why  string // what it is for, a short phrase
}

// MissingPackages lists what Build would miss for spec, in some tens of
// milliseconds. It goes by the programs and files themselves, so that
// they may as well come from elsewhere.
func MissingPackages(spec Spec) []Package {
	var missing []Package
	program := func(name, pkg, why string) {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, Package{pkg, why})
		}
	}
	program("git", "git", "applies the series")
	if slices.ContainsFunc(spec.Series, lists) {
		program("b4", "b4", "fetches a series by the Message-ID of its mail")
	}
	program("make", "make", "builds the kernel")
	// What the user has chosen and is not there is another matter: versionOf.
	a := targetArch()
	crossed := !a.native() && setting("CROSS_COMPILE") == ""
	if crossed && setting("CC") == "" {
		program(chosen("CC"), a.gcc, "compiles the kernel for "+a.arch)
	}
	if crossed && setting("LD") == "" {
		program(chosen("LD"), a.ld, "links the kernel for "+a.arch)
	}
	if chosen("CC") == "gcc" || chosen("HOSTCC") == "gcc" {
		why := "compiles the kernel"
		if _, err := exec.LookPath("clang"); err == nil {
			why += "; clang does not (CC= names another gcc)"
		}
		program("gcc", "gcc", why)
	}
	if chosen("LD") == "ld" {
		program("ld", "binutils", "links the kernel")
	}
	program("flex", "flex", "builds Kconfig")
	program("bison", "bison", "builds Kconfig")
	program("bc", "bc", "computes kernel/time's constants")
	program("perl", "perl", "builds the kernel")
	if a.goarch == "amd64" {
		program("lz4", "lz4", "compresses the kernel (CONFIG_KERNEL_LZ4)")
	}
	header := func(name, pkg, why string) {
		// Where headers are, the compiler knows.
		compiler := strings.Fields(chosen("HOSTCC") + " " + setting("HOSTCFLAGS"))
		_, err := command(context.Background(), compiler[0], append(compiler[1:], "-E", "-o", "/dev/null", "-")...).
			input(strings.NewReader("#include <" + name + ">\n")).output()
		var ce *commandError
		if errors.As(err, &ce) && strings.Contains(ce.stderr, name) { // no compiler is another matter
			missing = append(missing, Package{pkg, why})
		}
	}
	if a.goarch == "amd64" {
		header("libelf.h", "libelf-dev", "builds objtool (CONFIG_UNWINDER_ORC)")
	}
	header("stdio.h", "libc6-dev", "builds the programs that build the kernel")
	if slices.Contains(spec.Fragments, "modular") && !anyExists("/sbin/depmod", "/usr/sbin/depmod", "/bin/depmod", "/usr/bin/depmod") {
		missing = append(missing, Package{"kmod", "lists what the modules depend on"})
	}
	debian := spec.Source == "" || strings.HasPrefix(spec.Source, debianPrefix)
	if debian || archiveName.MatchString(spec.Source) {
		const why = "unpacks the kernel's source"
		program("tar", "tar", why)
		switch ext := filepath.Ext(spec.Source); {
		case debian || strings.HasSuffix(ext, "xz"):
			program("xz", "xz-utils", why)
		case ext == ".zst":
			program("zstd", "zstd", why)
		case ext == ".bz2":
			program("bzip2", "bzip2", why)
		}
	}
	return missing
}

func anyExists(paths ...string) bool {
	return slices.ContainsFunc(paths, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// MissingError says what to install.
type MissingError struct {
	Packages []Package
}

// Install is the command that installs what is missing.
func (e *MissingError) Install() string {
	cmd := "apt-get install --no-install-recommends"
	for _, p := range e.Packages {
		cmd += " " + p.Name
	}
	return cmd
}

func (e *MissingError) Error() string {
	var b strings.Builder
	b.WriteString("cannot build a kernel without:\n")
	for _, p := range e.Packages {
		fmt.Fprintf(&b, "  %-18s %s\n", p.Name, p.Why)
	}
	fmt.Fprintf(&b, "install with: %s", e.Install())
	return b.String()
}
