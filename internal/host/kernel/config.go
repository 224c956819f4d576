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

	"github.com/ringproof/ringproof/internal/host/meter"
)

// ConfigError lists the options that are needed, and that Kconfig did not leave
// as the fragments ask.
type ConfigError struct {
	Problems []string
}

func (e *ConfigError) Error() string {
	return "the kernel's configuration is not as asked:\n  " + strings.Join(e.Problems, "\n  ") +
		"\nto build without an option, name it in a fragment of your own, below a comment \"# Optional: what that costs\""
}

// KconfigError says that a source's own Kconfig fails.
type KconfigError struct {
	Err error // the target of make, and what it said
}

func (e *KconfigError) Error() string { return fmt.Sprintf("configure the kernel: %v", e.Err) }

func (e *KconfigError) Unwrap() error { return e.Err }

// configure makes the build directory of these fragments, and its .config.
func (t *tree) configure(ctx context.Context, frags []fragment, progress io.Writer) (*objects, error) {
	o := &objects{tree: t, about: configName(frags)}
	var err error
	if o.dir, err = t.objectsDir(ctx, objectsName(frags)); err != nil {
		return nil, err
	}
	o.log = o.dir + ".log"
	if err := o.open(); err != nil {
		return nil, err
	}
	if err := o.discardForeign(ctx, progress); err != nil {
		return nil, err
	}
	if err := o.confine(ctx, progress); err != nil {
		return nil, err
	}
	if name := wrapped(); name != "" {
		fmt.Fprintf(progress, "%s is not used: kernels that were built are in ringproof's cache\n", name)
	}
	key, err := t.configKey(ctx, frags)
	if err != nil {
		return nil, err
	}
	resolved := filepath.Join(t.dir, "config", key)
	err = o.reconfigure(resolved)
	if errors.Is(err, fs.ErrNotExist) {
		err = o.resolve(ctx, frags, resolved, progress)
	}
	if err != nil {
		return nil, err
	}
	got, err := readConfig(o.config())
	if err != nil {
		return nil, err
	}
	o.values = got
	if o.lacks, err = verify(asked(frags), got, t.src); err != nil {
		return nil, err
	}
	for _, lack := range o.lacks {
		fmt.Fprintf(progress, "not as asked, and built all the same: %s\n", lack)
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
	read, err := t.repo.list(ctx, t.at, func(e entry) bool {
		return strings.HasPrefix(e.path, "scripts/") || !slices.Contains([]string{".c", ".h", ".S", ".dts", ".dtsi", ".rst", ".txt", ".yaml", ".json"}, filepath.Ext(e.path))
	})
	if err != nil {
		return "", fmt.Errorf("configure the kernel: %w", err)
	}
	parts := append(toolchain, targetArch().arch)
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
	if err := os.WriteFile(o.config(), text, 0o666); err != nil {
		return fmt.Errorf("configure the kernel: %w", diskFull(err, o.dir))
	}
	return nil
}

// resolve makes the .config of tinyconfig, the fragments, and what Kconfig adds
// to them, and keeps it.
func (o *objects) resolve(ctx context.Context, frags []fragment, resolved string, progress io.Writer) (err error) {
	m := meter.New(progress, "configuring "+o.about, "targets", 0)
	defer func() { m.End(err == nil) }()
	m.Doing("make tinyconfig, which compiles Kconfig first")
	if err := o.quiet(ctx, "tinyconfig"); err != nil {
		return err
	}
	f, err := os.OpenFile(o.config(), os.O_WRONLY|os.O_APPEND, 0o666)
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
	m.Doing("make olddefconfig")
	if err := o.quiet(ctx, "olddefconfig"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(resolved), 0o777); err != nil {
		return fmt.Errorf("configure the kernel: %w", diskFull(err, o.dir))
	}
	// Renamed, for half of one would be believed.
	if err := copyFile(o.config(), resolved+".tmp"); err != nil {
		return fmt.Errorf("configure the kernel: %w", diskFull(err, o.dir))
	}
	return os.Rename(resolved+".tmp", resolved)
}

// everywhere are the options that change how every file is compiled, or most.
var everywhere = []string{"PCI", "PREEMPT", "PREEMPT_RT", "PREEMPT_LAZY", "KASAN", "KCSAN", "KMSAN", "KCOV", "UBSAN", "PROVE_LOCKING", "DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT", "DEBUG_INFO_DWARF4", "DEBUG_INFO_DWARF5", "GCOV_KERNEL", "LTO_CLANG"}

// objectsName names the build directory of a configuration. Most share one: going
// from one to another, kbuild compiles again what looks at an option that
// differs (scripts/basic/fixdep.c). What changes everything has one apart.
func objectsName(frags []fragment) string {
	name := "base"
	if targetArch().fragment != "" { // every file is another
		name = targetArch().fragment
	}
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

// verify compares what was asked for with what Kconfig made of it. What is
// needed and did not come out is a *ConfigError. What is optional and did not is
// returned, a sentence for each group with what it costs. src is the source tree,
// read only when something differs.
func verify(asked []option, got map[string]string, src string) (lacks []string, err error) {
	value := func(o option) string {
		if is, ok := got[o.name]; ok {
			return is
		}
		return "n"
	}
	satisfied := make(map[*group]bool)
	for _, o := range asked {
		if o.group != nil && o.group.oneOf && value(o) == o.value {
			satisfied[o.group] = true
		}
	}
	var entries kconfig
	var problems []string
	var groups []*group // that lack something, in order
	missed := make(map[*group][]string)
	for _, o := range asked {
		if value(o) == o.value || satisfied[o.group] {
			continue
		}
		if entries == nil {
			if entries, err = readKconfig(src); err != nil {
				return nil, err
			}
		}
		why := entries.why(o, value(o), got)
		if o.group == nil {
			problems = append(problems, fmt.Sprintf("%s:%d: %q: %s", o.fragment, o.line, o, why))
			continue
		}
		if missed[o.group] == nil {
			groups = append(groups, o.group)
		}
		missed[o.group] = append(missed[o.group], fmt.Sprintf("%q (%s:%d; %s)", o, o.fragment, o.line, why))
	}
	for _, g := range groups {
		switch all := strings.Join(missed[g], ", "); {
		case g.optional:
			lacks = append(lacks, fmt.Sprintf("%s. What it costs: %s", all, g.text))
		default:
			problems = append(problems, fmt.Sprintf("one of these is needed: %s: %s", all, g.text))
		}
	}
	if problems != nil {
		return nil, &ConfigError{problems}
	}
	return lacks, nil
}

// quiet runs a make target whose output is of interest only when it fails.
func (o *objects) quiet(ctx context.Context, target string) error {
	c, err := o.command(ctx, nil, target)
	if err != nil {
		return err
	}
	_, err = c.output()
	var ce *commandError
	if errors.As(err, &ce) && ctx.Err() == nil {
		return diskFull(&KconfigError{Err: err}, o.dir)
	}
	return err
}
