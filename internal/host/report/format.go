package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ringproof/ringproof/internal/host/srcline"
)

// formats are the forms in which a run can be written, the name of each and the file
// in the run's directory.
var formats = []struct {
	name, file string
	write      func(*Run) ([]byte, error)
}{
	{"text", "verdict.txt", func(r *Run) ([]byte, error) { return []byte(r.Text()), nil }},
	{"json", "verdict.json", (*Run).json},
	{"ktap", "verdict.ktap", (*Run).ktap},
	{"junit", "verdict.xml", (*Run).junit},
	{"markdown", "verdict.md", (*Run).markdown},
	{"mail", "verdict.mail", (*Run).cover},
	{"html", "verdict.html", (*Run).page},
}

// always is how many of the first formats are written whenever there is something
// new.
const always = 2

// Formats are the names that Format knows.
func Formats() []string {
	var names []string
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

// Format returns the run in that form.
func (r *Run) Format(name string) ([]byte, error) {
	for _, f := range formats {
		if f.name == name {
			return f.write(r)
		}
	}
	return nil, fmt.Errorf("there is no form %q: it must be one of %s", name, strings.Join(Formats(), ", "))
}

func (r *Run) json() ([]byte, error) {
	r.Version = Version
	r.Causes()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the verdict: %w", err)
	}
	return append(data, '\n'), nil
}

// Write puts verdict.json and verdict.txt into the run's directory. Each is as it
// was, or as it is to be, even if the process is killed meanwhile.
func (r *Run) Write() error { return r.write(always) }

// WriteAll puts all forms there.
func (r *Run) WriteAll() error { return r.write(len(formats)) }

func (r *Run) write(n int) error {
	for _, f := range formats[:n] {
		content, err := f.write(r)
		if err != nil {
			return err
		}
		file := filepath.Join(r.Dir, f.file)
		if err := os.WriteFile(file+".new", content, 0o644); err != nil {
			return fmt.Errorf("write the verdict: %w", err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			return fmt.Errorf("write the verdict: %w", err)
		}
	}
	return nil
}

// Locate finds where in the source all findings are.
func (r *Run) Locate(lines *srcline.Lines) error {
	for i := range r.Findings {
		r.Findings[i].Source = nil
		if f := &r.Findings[i]; f.Script == "" {
			if err := f.Locate(lines); err != nil {
				return err
			}
		}
	}
	return nil
}
