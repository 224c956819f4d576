package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ConfigError lists the options that Kconfig did not leave as the fragments
// ask.
type ConfigError struct {
	Problems []string
}

func (e *ConfigError) Error() string {
	return "the kernel's configuration is not as asked:\n  " + strings.Join(e.Problems, "\n  ")
}

// configure makes the build directory of these fragments, and its .config.
func (t *tree) configure(ctx context.Context, frags []fragment, progress io.Writer) (*objects, error) {
	o := &objects{tree: t, about: configName(frags)}
	o.dir = filepath.Join(t.dir, "obj", objectsName(frags))
	o.log = o.dir + ".log"
	if err := o.open(); err != nil {
		return nil, err
	}
	key, err := t.configKey(ctx, frags)
	if err != nil {
		return nil, err
	}
	resolved := filepath.Join(t.dir, "config", key)
	err = o.reconfigure(resolved)
	if errors.Is(err, fs.ErrNotExist) {
		err = o.resolve(ctx, frags, resolved)
	}
	if err != nil {
		return nil, err
	}
	got, err := readConfig(o.config())
	if err != nil {
		return nil, err
	}
	o.values = got
	if o.unknown, err = verify(asked(frags), got, t.src); err != nil {
		return nil, err
	}
	for _, name := range o.unknown {
		fmt.Fprintf(progress, "this source has no CONFIG_%s: built without\n", name)
	}
	return o, nil
}

// configKey names what Kconfig reads: the fragments, the compiler's version, and
// all files of the source but those that are nothing but C, assembler or text.
func (t *tree) configKey(ctx context.Context, frags []fragment) (string, error) {
	toolchain, err := readToolchain(ctx)
	if err != nil {
		return "", err
	}
	read, err := t.repo.list(ctx, t.at, func(path string) bool {
		return strings.HasPrefix(path, "scripts/") || !slices.Contains([]string{".c", ".h", ".S", ".dts", ".dtsi", ".rst", ".txt", ".yaml", ".json"}, filepath.Ext(path))
	})
	if err != nil {
		return "", fmt.Errorf("configure the kernel: %w", err)
	}
	parts := append(toolchain, arch)
	for _, o := range asked(frags) {
		parts = append(parts, o.name, o.value)
	}
	for _, e := range read {
		parts = append(parts, e.path, e.id)
	}
	return key(parts), nil
}

// reconfigure takes the .config that was resolved before. One that is the same
// is not touched, for kbuild would ask Kconfig again: that takes as long as to
// compile and link the change of one file.
func (o *objects) reconfigure(resolved string) error {
	text, err := os.ReadFile(resolved)
	if err != nil {
		return err
	}
	if now, err := os.ReadFile(o.config()); err == nil && bytes.Equal(now, text) {
		return nil
	}
	if err := os.WriteFile(o.config(), text, 0o644); err != nil {
		return fmt.Errorf("configure the kernel: %w", diskFull(err, o.dir))
	}
	return nil
}

// resolve makes the .config of tinyconfig, the fragments, and what Kconfig adds
// to them, and keeps it.
func (o *objects) resolve(ctx context.Context, frags []fragment, resolved string) error {
	if err := o.quiet(ctx, "tinyconfig"); err != nil {
		return err
	}
	f, err := os.OpenFile(o.config(), os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("configure the kernel: %w", err)
	}
	for _, frag := range frags {
		// The last of two lines for an option counts
		// (scripts/kconfig/confdata.c: conf_read_simple).
		fmt.Fprintf(f, "\n%s\n", frag.text)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("configure the kernel: %w", diskFull(err, o.dir))
	}
	if err := o.quiet(ctx, "olddefconfig"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(resolved), 0o755); err != nil {
		return fmt.Errorf("configure the kernel: %w", diskFull(err, o.dir))
	}
	// Renamed, for half of one would be believed.
	if err := copyFile(o.config(), resolved+".tmp"); err != nil {
		return fmt.Errorf("configure the kernel: %w", diskFull(err, o.dir))
	}
	return os.Rename(resolved+".tmp", resolved)
}

// everywhere are the options that change how every file is compiled, or most.
var everywhere = []string{"PCI", "KASAN", "KCSAN", "KMSAN", "KCOV", "UBSAN", "PROVE_LOCKING", "DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT", "DEBUG_INFO_DWARF4", "DEBUG_INFO_DWARF5", "GCOV_KERNEL", "LTO_CLANG"}

// objectsName is the build directory of a configuration. Most share one: going
// from one to another, kbuild compiles again what looks at an option that
// differs (scripts/basic/fixdep.c). What changes everything has one apart.
func objectsName(frags []fragment) string {
	name := "base"
	for _, f := range frags {
		for _, o := range f.options {
			if o.value != "n" && slices.Contains(everywhere, o.name) {
				name += "+" + strings.ToLower(o.name)
			}
		}
	}
	return name
}

// configName is what a configuration is called: the names of its fragments.
func configName(frags []fragment) string {
	var names []string
	for _, f := range frags {
		name := f.name
		if strings.ContainsAny(name, "/.") {
			name = sourceName(name, name)
		}
		names = append(names, name)
	}
	return strings.Join(names, "+")
}

// readConfig reads a .config; what is not set is "n".
func readConfig(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the kernel's configuration: %w", err)
	}
	values := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if m := setLine.FindStringSubmatch(line); m != nil {
			values[m[1]] = m[2]
		} else if m := unsetLine.FindStringSubmatch(line); m != nil {
			values[m[1]] = "n"
		}
	}
	return values, nil
}

// verify compares what was asked for with what Kconfig made of it. It returns
// the optional ones that the source has no entry for, or a *ConfigError. src
// is the source tree, read only when something differs.
func verify(asked []option, got map[string]string, src string) (unknown []string, err error) {
	var entries kconfig
	var problems []string
	for _, o := range asked {
		is, ok := got[o.name]
		if !ok {
			is = "n"
		}
		if is == o.value {
			continue
		}
		if entries == nil {
			if entries, err = readKconfig(src); err != nil {
				return nil, err
			}
		}
		what := fmt.Sprintf("CONFIG_%s=%s", o.name, o.value)
		if o.value == "n" {
			what = fmt.Sprintf("CONFIG_%s is not set", o.name)
		}
		where := fmt.Sprintf("%s:%d: %q", o.fragment, o.line, what)
		e := entries[o.name]
		known := e != nil && len(e.conditions) > 0
		switch {
		case !known && o.optional:
			unknown = append(unknown, o.name)
		case !known:
			problems = append(problems, where+": this source has no such option")
		case is == "n":
			problems = append(problems, where+": Kconfig dropped it"+e.unmet(got))
		default:
			problems = append(problems, fmt.Sprintf("%s: Kconfig made it %s%s", where, is, e.selectors(got)))
		}
	}
	if problems != nil {
		return nil, &ConfigError{problems}
	}
	return unknown, nil
}

// quiet runs a make target whose output is of interest only when it fails.
func (o *objects) quiet(ctx context.Context, target string) error {
	c := o.command(ctx, target)
	_, err := c.output()
	var ce *commandError
	if errors.As(err, &ce) && ctx.Err() == nil {
		return diskFull(fmt.Errorf("configure the kernel: make %s: %w", target, err), o.dir)
	}
	return err
}
