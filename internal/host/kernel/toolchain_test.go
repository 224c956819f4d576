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

func TestChosenCompilerIsUsedOrRefused(t *testing.T) {
	isolate(t)
	other := script(t, "gcc-99", "echo 'gcc (Other) 99.1.0'\n")
	t.Setenv("CC", "env "+other)
	t.Setenv("HOSTCC", other)
	lines, err := readToolchain(t.Context())
	if err != nil || lines[0] != "gcc (Other) 99.1.0" {
		t.Errorf("CC is not asked: %q, %v", lines, err)
	}
	c, err := (&objects{tree: &tree{lock: new(cache.Lock)}}).command(t.Context(), nil, "all")
	if err != nil {
		t.Fatal(err)
	}
	args := c.Args
	for _, want := range []string{"CC=env " + other, "HOSTCC=" + other} {
		if !slices.Contains(args, want) {
			t.Errorf("make is not given %s: %q", want, args)
		}
	}
	if strings.Contains(strings.Join(args, " "), "LD=") {
		t.Errorf("make is given what was not chosen: %q", args)
	}
	for _, tt := range []struct{ name, value, says string }{
		{"LLVM", "1", "LLVM=1"},
		{"LLVM", "-19", "LLVM=-19"},
		{"CC", script(t, "clang", "echo 'Debian clang version 19.1'\n"), "is clang"},
		{"CC", "gcc-no-such", "CC=gcc-no-such"},
		{"LD", "/no/such/ld", "LD=/no/such/ld"},
	} {
		t.Run(tt.name+"="+filepath.Base(tt.value), func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			if _, err := readToolchain(t.Context()); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v does not say %q", err, tt.says)
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
	other := script(t, "gcc-99", "echo 'gcc (Other) 99.1.0'\n")
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
