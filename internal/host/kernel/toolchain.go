package kernel

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// tools are the programs of a build that the user may choose, by the variable
// that kbuild has for each (Makefile), and what is used else. CROSS_COMPILE
// goes before the names of those that are crossed; see crossCompile.
var tools = []struct {
	variable, standard string
	crossed            bool
}{
	{"CC", "gcc", true},
	{"LD", "ld", true},
	{"AR", "ar", true},
	{"NM", "nm", true},
	{"OBJCOPY", "objcopy", true},
	{"OBJDUMP", "objdump", true},
	{"READELF", "readelf", true},
	{"STRIP", "strip", true},
	{"HOSTCC", "gcc", false},
	{"HOSTCXX", "g++", false},
	{"PAHOLE", "pahole", false},
}

// Options for the programs of a build that change what comes out. Kbuild takes
// the first from its environment (Documentation/kbuild/kbuild.rst), and its
// Makefiles add to them; it takes the others from make's command line alone.
//
// Its other variables are not looked at: they say where files go, how much is
// printed or what is checked (KBUILD_OUTPUT, KBUILD_VERBOSE, INSTALL_PATH), are
// fixed here because uname shows them (LOCALVERSION, KBUILD_BUILD_USER), or mean
// nothing to gcc (LLVM_IAS).
var (
	environmentOptions = []string{"KCPPFLAGS", "KCFLAGS", "KAFLAGS", "HOSTCFLAGS", "HOSTCXXFLAGS", "HOSTLDFLAGS", "HOSTLDLIBS"}
	commandLineOptions = []string{"CFLAGS_KERNEL", "CFLAGS_MODULE", "AFLAGS_KERNEL", "AFLAGS_MODULE", "LDFLAGS_MODULE", "LDFLAGS_vmlinux"}
)

// setting returns a variable of the user's, "" if it says nothing.
func setting(variable string) string { return strings.TrimSpace(os.Getenv(variable)) }

// wrappers start the compiler that they are told. A build that is confined has
// neither the cache nor the network that they use.
var wrappers = []string{"ccache", "sccache", "distcc", "icecc"}

// chosen returns the user's choice of a tool, without a wrapper: its command,
// which may have arguments ("gcc -B/opt/bin"), or the standard one.
func chosen(variable string) string {
	words := strings.Fields(os.Getenv(variable))
	if len(words) > 1 && slices.Contains(wrappers, filepath.Base(words[0])) {
		words = words[1:]
	}
	if len(words) > 0 {
		return strings.Join(words, " ")
	}
	for _, tool := range tools {
		if tool.variable == variable && tool.crossed {
			return crossCompile() + tool.standard
		} else if tool.variable == variable {
			return tool.standard
		}
	}
	return ""
}

// wrapped says which wrapper the user has a compiler started by, "" for none.
func wrapped() string {
	for _, variable := range []string{"CC", "HOSTCC"} {
		program := strings.Fields(os.Getenv(variable) + " " + chosen(variable))[0]
		// A link with the compiler's name may lead to it.
		path, err := exec.LookPath(program)
		if err == nil {
			path, _ = filepath.EvalSymlinks(path)
		}
		for _, name := range []string{filepath.Base(program), filepath.Base(path)} {
			if slices.Contains(wrappers, name) {
				return name
			}
		}
	}
	return ""
}

// crossCompile is the user's CROSS_COMPILE, or that of Debian's compiler if the
// kernel is not for this machine's architecture.
func crossCompile() string {
	if prefix := setting("CROSS_COMPILE"); prefix != "" || targetArch().native() {
		return prefix
	}
	return targetArch().prefix
}

// chosenArgs are the user's choices as arguments of make.
func chosenArgs() []string {
	var args []string
	if prefix := crossCompile(); prefix != "" {
		args = append(args, "CROSS_COMPILE="+prefix)
	}
	for _, tool := range tools {
		standard := tool.standard
		if tool.crossed {
			standard = crossCompile() + standard
		}
		if command := chosen(tool.variable); command != standard {
			args = append(args, tool.variable+"="+command)
		}
	}
	return append(args, settings(commandLineOptions)...)
}

// chosenEnv are those that make is given in its environment.
func chosenEnv() []string { return settings(environmentOptions) }

func settings(variables []string) []string {
	var all []string
	for _, variable := range variables {
		if value := setting(variable); value != "" {
			all = append(all, variable+"="+value)
		}
	}
	return all
}

const onlyGCC = "kernels are built with gcc here, whose line tables findings point into: unset %s, or choose a gcc as in CC=gcc-13"

// refuse says which of the user's variables asks for a kernel that is not built
// here.
func refuse() error {
	if llvm := os.Getenv("LLVM"); llvm != "" {
		return fmt.Errorf("LLVM=%s: "+onlyGCC, llvm, "LLVM")
	}
	if a := setting("ARCH"); a != "" && byARCH(a) == nil {
		return fmt.Errorf("ARCH=%s: kernels are built for x86_64 and arm64 here: unset ARCH, or set it to one of these", a)
	}
	if file := setting("KBUILD_KCONFIG"); file != "" {
		return fmt.Errorf("KBUILD_KCONFIG=%s: kernels are configured by the Kconfig of their source here: unset KBUILD_KCONFIG", file)
	}
	return nil
}

// readToolchain returns what of the build's programs changes what comes out:
// the version lines of compiler and linker, and what the user has chosen.
func readToolchain(ctx context.Context) ([]string, error) {
	if err := refuse(); err != nil {
		return nil, err
	}
	var lines []string
	for _, variable := range []string{"CC", "LD"} {
		out, err := versionOf(ctx, variable)
		if err != nil {
			return nil, err
		}
		if variable == "CC" && strings.Contains(out, "clang") {
			return nil, fmt.Errorf("CC=%s is clang: "+onlyGCC, chosen("CC"), "CC")
		}
		line, _, _ := strings.Cut(out, "\n")
		lines = append(lines, line)
	}
	lines = append(append(lines, chosenArgs()...), chosenEnv()...)
	if chosen("CC") == "gcc" && targetArch().native() {
		return lines, nil
	}
	words := strings.Fields(chosen("CC"))
	machine, err := command(ctx, words[0], append(words[1:], "-dumpmachine")...).output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", named("CC"), err)
	}
	if machine = strings.TrimSpace(machine); !targetArch().compiles.MatchString(machine) {
		return nil, fmt.Errorf("%s: it compiles for %s, and the kernel is to be built for %s: unset it, or name a compiler for that", named("CC"), machine, targetArch().arch)
	}
	return lines, nil
}

// named is how the user has named a tool.
func named(variable string) string {
	if setting(variable) == "" && setting("CROSS_COMPILE") != "" && chosen(variable) != "gcc" {
		return "CROSS_COMPILE=" + setting("CROSS_COMPILE")
	}
	return variable + "=" + chosen(variable)
}

func versionOf(ctx context.Context, variable string) (string, error) {
	words := strings.Fields(chosen(variable))
	out, err := command(ctx, words[0], append(words[1:], "--version")...).output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", named(variable), err)
	}
	return out, nil
}

// hostPrograms describes what the programs that a build makes for itself, and
// keeps in the build directory, depend on.
func hostPrograms(ctx context.Context) (string, error) {
	toolchain, err := readToolchain(ctx)
	if err != nil {
		return "", err
	}
	host, err := versionOf(ctx, "HOSTCC")
	if err != nil {
		return "", err
	}
	libc, _ := command(ctx, "getconf", "GNU_LIBC_VERSION").output() // "" for another libc
	return strings.Join(append(toolchain, host, libc, ""), "\n"), nil
}

// objectsDir returns the build directory of that name for the toolchain. The
// first toolchain that builds has it; any other has one apart, for a home
// directory that is shared with containers is built in by several.
func (t *tree) objectsDir(ctx context.Context, name string) (string, error) {
	dir := filepath.Join(t.dir, "obj", name)
	host, err := hostPrograms(ctx)
	if err != nil {
		return "", err
	}
	first, err := os.ReadFile(dir + ".toolchain")
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
			return "", fmt.Errorf("make a build directory: %w", diskFull(err, t.dir))
		}
		first, err = []byte(host), os.WriteFile(dir+".toolchain", []byte(host), 0o666)
	}
	if err != nil {
		return "", fmt.Errorf("make a build directory: %w", diskFull(err, t.dir))
	}
	if string(first) != host {
		dir += "-" + key([]string{host})[:8]
	}
	return dir, nil
}

// discardForeign removes the build directory if its programs do not run here,
// for they want a newer libc, say.
func (o *objects) discardForeign(ctx context.Context, progress io.Writer) error {
	fixdep := filepath.Join(o.dir, "scripts/basic/fixdep") // the first that a build makes
	if !exists(fixdep) {
		return nil
	}
	wants, err := lacking(ctx, fixdep)
	if err != nil || wants == "" {
		return err
	}
	fmt.Fprintf(progress, "the programs in %s do not run here (%s): it is rebuilt\n", o.dir, wants)
	if err := os.RemoveAll(o.dir); err != nil {
		return fmt.Errorf("make a build directory anew: %w", err)
	}
	return o.open()
}

// lacking says what a program wants and does not have here. It is not run to
// find out: what it is made of may be a stranger's.
func lacking(ctx context.Context, program string) (string, error) {
	f, err := elf.Open(program)
	if err != nil {
		return "not a program: " + err.Error(), nil
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(p.Open())
		if err != nil {
			return "not a program: " + err.Error(), nil
		}
		if loader := strings.TrimRight(string(name), "\x00"); !exists(loader) {
			return loader, nil
		}
	}
	needs, err := f.DynamicVersionNeeds()
	if err != nil { // it has none, being static
		return "", nil
	}
	compiler := strings.Fields(chosen("HOSTCC"))
	for _, library := range needs {
		path, err := command(ctx, compiler[0], append(compiler[1:], "-print-file-name="+library.Name)...).output()
		if err != nil {
			return "", err
		}
		lib, err := elf.Open(strings.TrimSpace(path))
		if err != nil {
			return library.Name, nil
		}
		has, err := lib.DynamicVersions()
		lib.Close()
		if err != nil {
			return library.Name, nil
		}
		for _, need := range library.Needs {
			if !slices.ContainsFunc(has, func(v elf.DynamicVersion) bool { return v.Name == need.Dep }) {
				return need.Dep + " of " + library.Name, nil
			}
		}
	}
	return "", nil
}
