package kernel

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tools are the programs of a build that the user may choose, by the variable
// that kbuild has for each (Documentation/kbuild/kbuild.rst), and what is used
// else.
var tools = []struct{ variable, standard string }{
	{"CC", "gcc"},
	{"LD", "ld"},
	{"HOSTCC", "gcc"},
}

// chosen returns the user's choice of a tool: its command, which may have
// arguments ("ccache gcc"), or the standard one.
func chosen(variable string) string {
	for _, tool := range tools {
		if tool.variable == variable && strings.TrimSpace(os.Getenv(variable)) == "" {
			return tool.standard
		}
	}
	return os.Getenv(variable)
}

// chosenArgs are the user's choices as arguments of make.
func chosenArgs() []string {
	var args []string
	for _, tool := range tools {
		if command := chosen(tool.variable); command != tool.standard {
			args = append(args, tool.variable+"="+command)
		}
	}
	return args
}

const onlyGCC = "kernels are built with gcc here, whose line tables findings point into: unset %s, or choose a gcc as in CC=gcc-13"

// readToolchain returns the version lines of the programs whose version
// changes what comes out.
func readToolchain(ctx context.Context) ([]string, error) {
	if llvm := os.Getenv("LLVM"); llvm != "" {
		return nil, fmt.Errorf("LLVM=%s: "+onlyGCC, llvm, "LLVM")
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
	return lines, nil
}

func versionOf(ctx context.Context, variable string) (string, error) {
	words := strings.Fields(chosen(variable))
	out, err := command(ctx, words[0], append(words[1:], "--version")...).output()
	if err != nil {
		return "", fmt.Errorf("%s=%s: %w", variable, chosen(variable), err)
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
	return strings.Join(append(toolchain, host, libc, strings.Join(chosenArgs(), "\n")), "\n"), nil
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
	fmt.Fprintf(progress, "the programs in %s do not run here (%s): it is made anew\n", o.dir, wants)
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
