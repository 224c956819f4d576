package kernel

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestARM64: ARCH=arm64 alone makes everything that of arm64: the compiler, the
// configuration, the build directory, the packages that are missing.
func TestARM64(t *testing.T) {
	isolate(t)
	missing := func() string {
		var names []string
		for _, p := range MissingPackages(Spec{Source: "/some/tree"}) {
			names = append(names, p.Name)
		}
		return strings.Join(names, " ")
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir())
	if got := missing(); strings.Contains(got, "aarch64") {
		t.Errorf("without ARCH, %s are missing", got)
	}
	t.Setenv("ARCH", "arm64")
	if got := missing(); !strings.Contains(got, "gcc-aarch64-linux-gnu") || !strings.Contains(got, "binutils-aarch64-linux-gnu") || strings.Contains(got, "lz4") {
		t.Errorf("%s are missing", got)
	}
	const prefix = "aarch64-linux-gnu-"
	compiler := compiler(t, prefix+"gcc", prefix+"gcc (Other) 99.1.0", "aarch64-linux-gnu")
	if err := os.WriteFile(filepath.Join(filepath.Dir(compiler), prefix+"ld"), []byte("#!/bin/sh\necho GNU ld 9\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(compiler)+":"+path)
	if got := missing(); strings.Contains(got, "aarch64") {
		t.Errorf("%s are missing, and here", got)
	}
	lines, err := readToolchain(t.Context())
	if err != nil || lines[0] != prefix+"gcc (Other) 99.1.0" || lines[1] != "GNU ld 9" {
		t.Errorf("toolchain %q, %v", lines, err)
	}
	args := makeCommand(t).Args
	for _, want := range []string{"ARCH=arm64", "CROSS_COMPILE=" + prefix} {
		if !slices.Contains(args, want) {
			t.Errorf("make is not given %s: %q", want, args)
		}
	}
	frags, err := readFragments([]string{"debug"})
	if err != nil {
		t.Fatal(err)
	}
	if name := configName(frags); name != "base+arm64+debug" {
		t.Errorf("the configuration is %s", name)
	}
	if name := objectsName(frags); !strings.HasPrefix(name, "arm64") {
		t.Errorf("the build directory is %s", name)
	}
	t.Setenv("CC", "gcc")
	if _, err := readToolchain(t.Context()); err == nil || !strings.Contains(err.Error(), "to be built for arm64") {
		t.Errorf("a compiler for x86-64: %v", err)
	}
}

// TestX86IsAsItWas: without ARCH nothing is asked for beyond base.
func TestX86IsAsItWas(t *testing.T) {
	for _, arch := range []string{"", "x86_64", "x86"} {
		t.Setenv("ARCH", arch)
		frags, err := readFragments(nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(frags) != 1 || objectsName(frags) != "base" || slices.ContainsFunc(asked(frags), func(o option) bool { return strings.Contains(o.name, "ARM64") }) {
			t.Errorf("ARCH=%s: %s in %s", arch, configName(frags), objectsName(frags))
		}
	}
}
