package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/kconfigs"
)

// fragment is a part of a kernel configuration.
type fragment struct {
	name    string
	text    string
	options []option
}

// option is a line of a fragment that asks for something.
type option struct {
	name     string // without CONFIG_
	value    string // as in .config: y, m, 42, "text"; n for "is not set"
	group    *group // nil if the option is needed
	fragment string // where it stands
	line     int
}

func (o option) String() string {
	if o.value == "n" {
		return fmt.Sprintf("CONFIG_%s is not set", o.name)
	}
	return fmt.Sprintf("CONFIG_%s=%s", o.name, o.value)
}

// group is the options below a comment that says whether they are needed. The
// top of kconfigs/base.config has the rule.
type group struct {
	optional bool   // a kernel without them is good, too
	oneOf    bool   // one of them is enough
	text     string // what it costs to lack them, or what they are
}

var (
	setLine   = regexp.MustCompile(`^CONFIG_([A-Za-z0-9_]+)=(.*)$`)
	unsetLine = regexp.MustCompile(`^# CONFIG_([A-Za-z0-9_]+) is not set$`)
	groupLine = regexp.MustCompile(`^# (?:(Optional)|(One of)|(Optional, one of)):\s*(.*)$`)
)

// readFragments reads base, the fragment of the architecture that is wanted, and then
// each that is named.
func readFragments(names []string) ([]fragment, error) {
	if !slices.Contains(names, "base") {
		names = append([]string{"base"}, names...)
	} else if names[0] != "base" {
		return nil, fmt.Errorf("configuration fragments %s: base comes first", strings.Join(names, " "))
	}
	if own := targetArch().fragment; own != "" && !slices.Contains(names, own) {
		names = slices.Insert(slices.Clone(names), 1, own)
	}
	var frags []fragment
	for _, name := range names {
		text, err := readFragment(name)
		if err != nil {
			return nil, err
		}
		f := fragment{name: name, text: string(text)}
		if f.options, err = parseFragment(name, f.text); err != nil {
			return nil, err
		}
		frags = append(frags, f)
	}
	return frags, nil
}

func readFragment(name string) ([]byte, error) {
	if strings.ContainsAny(name, "/.") {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("configuration fragment %s: %s", name, errno(err))
		}
		return text, nil
	}
	text, err := kconfigs.FS.ReadFile(name + ".config")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no configuration fragment %q: there are %s; a file of your own needs its path, as ./%s",
			name, strings.Join(Fragments(), ", "), name)
	}
	return text, err
}

// Fragments lists the names of the fragments in kconfigs/.
func Fragments() []string {
	files, err := fs.Glob(kconfigs.FS, "*.config")
	if err != nil {
		panic(err) // the pattern is ours
	}
	for i, file := range files {
		files[i] = strings.TrimSuffix(filepath.Base(file), ".config")
	}
	return files
}

func parseFragment(name, text string) ([]option, error) {
	var options []option
	var current *group
	comment := false
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if m := setLine.FindStringSubmatch(line); m != nil {
			options = append(options, option{m[1], m[2], current, name, n})
			comment = false
			continue
		}
		if m := unsetLine.FindStringSubmatch(line); m != nil {
			options = append(options, option{m[1], "n", current, name, n})
			comment = false
			continue
		}
		if line != "" && !strings.HasPrefix(line, "#") {
			return nil, fmt.Errorf("configuration fragment %s:%d: %q is neither CONFIG_X=value, nor \"# CONFIG_X is not set\", nor a comment", name, n, line)
		}
		if m := groupLine.FindStringSubmatch(line); m != nil {
			current = &group{optional: m[2] == "", oneOf: m[1] == "", text: m[4]}
		} else if line == "" || !comment {
			current = nil
		} else if current != nil { // the comment goes on
			current.text = strings.TrimSpace(current.text + " " + strings.TrimSpace(strings.TrimPrefix(line, "#")))
		}
		comment = line != ""
	}
	return options, nil
}

// asked returns what the fragments ask for: of options named twice, the last.
func asked(frags []fragment) []option {
	last := make(map[string]int)
	var options []option
	for _, f := range frags {
		for _, o := range f.options {
			if i, ok := last[o.name]; ok {
				options[i] = o
				continue
			}
			last[o.name] = len(options)
			options = append(options, o)
		}
	}
	return options
}
