package kernel

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// script writes a program.
func script(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	files{name: "#!/bin/sh\n" + text}.write(t, dir)
	path := filepath.Join(dir, name)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// compiler writes a gcc of that version for that machine.
func compiler(t *testing.T, name, version, machine string) string {
	t.Helper()
	return script(t, name, "case $1 in -dumpmachine) echo "+machine+";; *) echo '"+version+"';; esac\n")
}

// makeCommand is a make as a build runs it.
func makeCommand(t *testing.T) *cmd {
	t.Helper()
	c, err := (&objects{tree: &tree{lock: new(cache.Lock)}}).command(t.Context(), nil, "all")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChosenCompilerIsUsed(t *testing.T) {
	isolate(t)
	other := compiler(t, "gcc-99", "gcc (Other) 99.1.0", "x86_64-pc-linux-gnu")
	t.Setenv("CC", "env "+other)
	t.Setenv("HOSTCC", other)
	lines, err := readToolchain(t.Context())
	if err != nil || lines[0] != "gcc (Other) 99.1.0" {
		t.Errorf("CC is not asked: %q, %v", lines, err)
	}
	args := makeCommand(t).Args
	for _, want := range []string{"CC=env " + other, "HOSTCC=" + other} {
		if !slices.Contains(args, want) {
			t.Errorf("make is not given %s: %q", want, args)
		}
	}
	if strings.Contains(strings.Join(args, " "), "LD=") {
		t.Errorf("make is given what was not chosen: %q", args)
	}
}

// TestVariablesOfKbuild: each is given to make, and makes another kernel; or is
// refused by its name; or changes no kernel, and is not looked at.
func TestVariablesOfKbuild(t *testing.T) {
	isolate(t)
	foreign := compiler(t, "arm-linux-gcc", "gcc (Other) 99.1.0", "arm-linux-gnueabi")
	cross := strings.TrimSuffix(compiler(t, "x86-gcc", "gcc (Other) 99.1.0", "x86_64-linux-gnu"), "gcc")
	if err := os.WriteFile(cross+"ld", []byte("#!/bin/sh\necho GNU ld 9\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	standard, err := readToolchain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	plain := makeCommand(t)
	for _, tt := range []struct{ name, value, refused string }{
		{"AR", "gcc-ar", ""}, {"NM", "gcc-nm", ""}, {"OBJCOPY", "llvm-objcopy", ""}, {"OBJDUMP", "x", ""}, {"READELF", "x", ""}, {"STRIP", "x", ""},
		{"HOSTCXX", "x", ""}, {"PAHOLE", "x", ""}, {"LD", "ld.bfd", ""}, {"CC", "gcc -m64", ""}, {"CROSS_COMPILE", cross, ""},
		{"KCFLAGS", "-O1 -g", ""}, {"KCPPFLAGS", "-DX=1", ""}, {"KAFLAGS", "x", ""}, {"HOSTCFLAGS", "x", ""}, {"HOSTLDFLAGS", "x", ""},
		{"CFLAGS_KERNEL", "x", ""}, {"AFLAGS_MODULE", "x", ""}, {"LDFLAGS_vmlinux", "x", ""},

		{"LLVM", "1", "LLVM=1"}, {"LLVM", "-19", "LLVM=-19"}, {"LLVM", "/opt/llvm/bin/", "LLVM=/opt"}, {"LLVM", "0", "unset LLVM"},
		{"CC", script(t, "clang", "echo 'Debian clang version 19.1'\n"), "is clang"},
		{"CC", "ccache " + script(t, "clang", "echo 'Debian clang version 19.1'\n"), "is clang"},
		{"CC", "gcc-no-such", "CC=gcc-no-such"}, {"LD", "/no/such/ld", "LD=/no/such/ld"}, {"CC", foreign, "for arm-linux-gnueabi"},
		{"CROSS_COMPILE", strings.TrimSuffix(foreign, "gcc"), "CROSS_COMPILE=/"}, {"CROSS_COMPILE", "no-such-", "CROSS_COMPILE=no-such-"},
		{"ARCH", "aarch64", "unset ARCH"}, {"ARCH", "i386", "ARCH=i386"}, {"ARCH", "um", "ARCH=um"}, {"KBUILD_KCONFIG", "Kconfig.mine", "unset KBUILD_KCONFIG"},

		{"ARCH", "x86", "same"}, {"ARCH", "x86_64", "same"}, {"CC", "gcc", "same"}, {"CC", " ", "same"}, {"CC", "ccache gcc", "same"}, {"HOSTCC", "/usr/bin/sccache gcc", "same"},
		{"LLVM_IAS", "1", "same"}, {"KBUILD_OUTPUT", "/tmp/o", "same"}, {"KBUILD_VERBOSE", "1", "same"}, {"KBUILD_EXTRA_WARN", "1", "same"},
		{"KBUILD_BUILD_USER", "me", "same"}, {"KBUILD_EXTMOD", "/tmp/m", "same"}, {"LOCALVERSION", "-me", "same"}, {"INSTALL_MOD_PATH", "/tmp", "same"},
		{"C", "1", "same"}, {"W", "1", "same"}, {"O", "/tmp/o", "same"}, {"V", "1", "same"}, {"CFLAGS", "-O3", "same"}, {"MAKEFLAGS", "-k", "same"},
	} {
		t.Run(tt.name+"="+filepath.Base(tt.value), func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			lines, err := readToolchain(t.Context())
			if tt.refused != "" && tt.refused != "same" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("%v does not say %q", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c := makeCommand(t)
			given := slices.Contains(append(c.Args, c.Env...), tt.name+"="+tt.value)
			if tt.refused == "" && (slices.Equal(lines, standard) || !given) {
				t.Errorf("a kernel is not told by it, or make not given it: %q, %q, %q", lines, c.Args, c.Env)
			}
			if tt.refused == "same" && (!slices.Equal(lines, standard) || !slices.Equal(c.Args, plain.Args) || !slices.Equal(c.Env, plain.Env)) {
				t.Errorf("it changes a build: %q, %q, %q", lines, c.Args, c.Env)
			}
		})
	}
}

func TestWrapperIsNamed(t *testing.T) {
	ccache := script(t, "ccache", "")
	masked := filepath.Join(t.TempDir(), "gcc")
	if err := os.Symlink(ccache, masked); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ variable, value, wrapper string }{
		{"CC", "ccache gcc", "ccache"}, {"CC", "/no/such/sccache gcc", "sccache"}, {"HOSTCC", "distcc gcc", "distcc"},
		{"PATH", filepath.Dir(masked) + ":" + os.Getenv("PATH"), "ccache"}, {"CC", "", ""}, {"CC", "gcc-13", ""}, {"CC", "env gcc", ""},
	} {
		t.Run(tt.variable+"="+tt.value, func(t *testing.T) {
			t.Setenv(tt.variable, tt.value)
			if got := wrapped(); got != tt.wrapper {
				t.Errorf("it is %q, want %q", got, tt.wrapper)
			}
		})
	}
}

func TestMachineWithClangAloneIsTold(t *testing.T) {
	t.Setenv("PATH", filepath.Dir(script(t, "clang", "")))
	for _, p := range MissingPackages(Spec{Source: "/some/tree"}) {
		if p.Name == "gcc" && strings.Contains(p.Why, "clang does not") {
			return
		}
	}
	t.Error("gcc is not missed, or clang not mentioned")
}

func TestHeadersAreWhereTheCompilerHasThem(t *testing.T) {
	missing := func() []string {
		var names []string
		for _, p := range MissingPackages(Spec{Source: "/some/tree"}) {
			if strings.HasSuffix(p.Name, "-dev") {
				names = append(names, p.Name)
			}
		}
		return names
	}
	t.Setenv("HOSTCC", "gcc -nostdinc") // as if /usr/include were empty
	if got := missing(); len(got) != 2 {
		t.Errorf("without any headers, %q are missing", got)
	}
	store := t.TempDir()
	files{"libelf.h": "", "stdio.h": ""}.write(t, store)
	t.Setenv("HOSTCFLAGS", "-I"+store)
	if got := missing(); len(got) != 0 {
		t.Errorf("with headers where HOSTCFLAGS says, %q are missing", got)
	}
	t.Setenv("HOSTCFLAGS", "")
	t.Setenv("C_INCLUDE_PATH", store)
	if got := missing(); len(got) != 0 {
		t.Errorf("with headers in C_INCLUDE_PATH, %q are missing", got)
	}
}

func TestEachToolchainHasABuildDirectory(t *testing.T) {
	isolate(t)
	tr := &tree{dir: t.TempDir()}
	dir := func(cc string) string {
		t.Setenv("CC", cc)
		dir, err := tr.objectsDir(t.Context(), "base")
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	other := compiler(t, "gcc-99", "gcc (Other) 99.1.0", "x86_64-pc-linux-gnu")
	standard := dir("")
	if filepath.Base(standard) != "base" {
		t.Errorf("the first toolchain builds in %s", standard)
	}
	if dir(other) == standard {
		t.Error("two toolchains share a directory")
	}
	if dir(other) != dir(other) || dir("") != standard {
		t.Error("a toolchain changes its directory")
	}
}

func TestBuildDirectoryOfForeignProgramsIsMadeAnew(t *testing.T) {
	compiled := filepath.Join(t.TempDir(), "fixdep")
	if _, err := command(t.Context(), "gcc", "-x", "c", "-o", compiled, "-").input(strings.NewReader("#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n")).output(); err != nil {
		t.Fatal(err)
	}
	program := contentOf(t, compiled)
	if !strings.Contains(program, "\x00GLIBC_2.") {
		t.Skip("this libc has no versions")
	}
	for _, tt := range []struct{ name, text, says string }{
		{"of this machine", program, ""},
		{"of a newer libc", strings.ReplaceAll(program, "\x00GLIBC_2.", "\x00GLIBC_9."), "GLIBC_9."},
		{"of another loader", strings.ReplaceAll(program, "\x00/lib64/ld-", "\x00/lib99/ld-"), "/lib99/ld-"},
		{"a script", "#!/no/such/loader\n", "not a program"},
		{"half of it", program[:len(program)/2], "not a program"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := &tree{dir: t.TempDir()}
			o := &objects{tree: tr, dir: filepath.Join(tr.dir, "base")}
			files{"scripts/basic/fixdep": tt.text, "vmlinux": ""}.write(t, o.dir)
			var said strings.Builder
			if err := o.discardForeign(t.Context(), &said); err != nil {
				t.Fatal(err)
			}
			if kept := exists(filepath.Join(o.dir, "vmlinux")); kept != (tt.says == "") || !strings.Contains(said.String(), tt.says) {
				t.Errorf("kept %v, said %q", kept, said.String())
			}
		})
	}
}

func TestSourceOlderThanTheCompiler(t *testing.T) {
	err := &MakeError{Lines: []string{"stddef.h:11:9: error: cannot use keyword 'false' as enumeration constant", "stddef.h:11:9: note: 'false' is a keyword with '-std=c23' onwards"}}
	if !strings.Contains(err.Error(), "CC=gcc-13") {
		t.Errorf("no advice in %v", err)
	}
}
