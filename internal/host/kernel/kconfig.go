package kernel

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// kconfig knows the options of a source tree, as far as an error message
// wants to: it is a reader of lines, not an interpreter of Kconfig.
type kconfig map[string]*kconfigEntry

type kconfigEntry struct {
	conditions []string // of each "config" block, what it depends on; none: only selected, nowhere defined
	selectedBy []string
}

var (
	kconfigStart  = regexp.MustCompile(`^\s*(config|menuconfig)\s+(\w+)\s*$`)
	kconfigBlock  = regexp.MustCompile(`^\s*(if|endif|menu|endmenu|choice|endchoice|comment|source)\b\s*(.*)$`)
	kconfigLine   = regexp.MustCompile(`^\s+(depends on|select)\s+(.*)$`)
	kconfigPrompt = regexp.MustCompile(`^\s+(?:bool|tristate)\s+".*"\s+if\s+(.*)$`)
	kconfigSymbol = regexp.MustCompile(`!?\b[A-Z][A-Z0-9_]*\b`)
	kconfigRest   = regexp.MustCompile(`\s+if\s+.*$`)
	kconfigHelp   = regexp.MustCompile(`^\s+help\s*$`)
)

// readKconfig reads the Kconfig files of a tree that count for the
// architecture that is wanted.
func readKconfig(src string) (kconfig, error) {
	all := make(kconfig)
	err := filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			otherArch := filepath.Base(filepath.Dir(path)) == "arch" && filepath.Dir(filepath.Dir(path)) == src && d.Name() != targetArch().kconfig
			if otherArch || path == filepath.Join(src, "Documentation") || path == filepath.Join(src, "scripts/kconfig/tests") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasPrefix(d.Name(), "Kconfig") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all.read(strings.ReplaceAll(string(text), "\\\n", " "))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the source's Kconfig files: %w", err)
	}
	return all, nil
}

func (k kconfig) entry(name string) *kconfigEntry {
	if k[name] == nil {
		k[name] = &kconfigEntry{}
	}
	return k[name]
}

// read adds the options of one Kconfig file.
func (k kconfig) read(text string) {
	var around []string // conditions of the enclosing if and menu blocks
	var marks []int     // len(around) at the start of each
	var name string     // the option being read
	var own int         // its conditions begin at this element of the last block
	help := false
	selects := make(map[string][]string)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimRight(line, "\n"), " #")
		if help && (line == "" || line[0] == ' ' || line[0] == '\t') && !kconfigStart.MatchString(line) {
			continue
		}
		help = false
		if kconfigHelp.MatchString(line) {
			help = true
			continue
		}
		if m := kconfigStart.FindStringSubmatch(line); m != nil {
			name = m[2]
			e := k.entry(name)
			e.conditions = append(e.conditions, strings.Join(around, " && "))
			own = len(e.conditions) - 1
			continue
		}
		if m := kconfigLine.FindStringSubmatch(line); m != nil {
			value := strings.TrimSpace(m[2])
			switch {
			case m[1] == "select" && name != "":
				target := kconfigRest.ReplaceAllString(value, "")
				selects[target] = append(selects[target], name)
			case m[1] == "depends on" && name != "":
				k[name].require(own, value)
			case m[1] == "depends on" && len(marks) > 0: // of a menu
				around = append(around, value)
			}
			continue
		}
		if m := kconfigPrompt.FindStringSubmatch(line); m != nil && name != "" {
			k[name].require(own, m[1])
			continue
		}
		if m := kconfigBlock.FindStringSubmatch(line); m != nil {
			name = ""
			switch m[1] {
			case "if", "menu", "choice":
				marks = append(marks, len(around))
				if m[1] == "if" {
					around = append(around, m[2])
				}
			case "endif", "endmenu", "endchoice":
				if len(marks) > 0 {
					around = around[:marks[len(marks)-1]]
					marks = marks[:len(marks)-1]
				}
			}
		}
	}
	for target, names := range selects {
		e := k.entry(target)
		e.selectedBy = append(e.selectedBy, names...)
	}
}

func (e *kconfigEntry) require(block int, condition string) {
	if e.conditions[block] != "" {
		condition = e.conditions[block] + " && " + condition
	}
	e.conditions[block] = condition
}

// why says how it comes that an option is not as asked.
func (k kconfig) why(o option, is string, got map[string]string) string {
	e := k[o.name]
	switch {
	case e == nil || len(e.conditions) == 0:
		return "this source has no such option"
	case is == "n":
		return "Kconfig dropped it" + e.unmet(got)
	default:
		return "Kconfig made it " + is + e.selectors(got)
	}
}

// unmet says what an option depends on that is not set, "" if that is not
// known.
func (e *kconfigEntry) unmet(got map[string]string) string {
	var all []string
	for _, condition := range e.conditions {
		var off []string
		for _, name := range kconfigSymbol.FindAllString(condition, -1) {
			name, negated := strings.CutPrefix(name, "!")
			v, ok := got[name]
			set := ok && v != "n"
			is := name + " is not set"
			if set {
				is = name + " is set"
			}
			if set == negated && !slices.Contains(off, is) {
				off = append(off, is)
			}
		}
		if off != nil {
			all = append(all, fmt.Sprintf("it depends on %s, where %s", condition, strings.Join(off, ", ")))
		}
	}
	if all == nil {
		return ""
	}
	return ": " + strings.Join(all, "; or ")
}

// selectors says which options that are set select one.
func (e *kconfigEntry) selectors(got map[string]string) string {
	var on []string
	for _, name := range e.selectedBy {
		if v := got[name]; (v == "y" || v == "m") && !slices.Contains(on, name) {
			on = append(on, name)
		}
	}
	if on == nil {
		return ""
	}
	return ": selected by " + strings.Join(on, ", ")
}
