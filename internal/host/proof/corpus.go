package proof

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/host/kernel"
)

// Design is a series under patches/designs, or the stock kernel, and what
// review made of it. The file "verdict" in its directory says that, a line
// each:
//
//	driver    veth
//	config    macvtap
//	contract  rare-drop
//	no-stall  broken
//
// A promise that is not in it is kept, the driver is tun unless it says another one, and
// the kernel is configured by the base fragment alone unless it names more.
type Design struct {
	Name      string
	Driver    string
	Series    []string // nil is stock
	Fragments []string
	Contract  contract.Contract
	Broken    []contract.Promise
	// Bugs are planted on it.
	Bugs []*Bug
}

// Bug is a patch under patches/bugs, on top of a design. Its mail says so:
//
//	Design: opt-in-2
//	Promise: no-stall
//	Caught-by: TestSchedules/tun_net_xmit/drain-all/ring=2/fq_codel
//
// and, if it keeps the check from deciding anything, as a guest that dies does,
//
//	Verdict: undecided
type Bug struct {
	Name    string // the patch's file name without .patch
	Design  *Design
	Subject string
	Promise contract.Promise // that it breaks
	Check   string           // that catches it, as go test's -run
	Verdict contract.Outcome // of that check
}

// series is what its kernel is made of.
func (b *Bug) series(dir string) []string {
	return append(slices.Clone(b.Design.Series), filepath.Join(dir, "bugs", b.Name+".patch"))
}

// Read returns what is in dir, which has designs/ and bugs/.
func Read(dir string) ([]*Design, error) {
	files, err := filepath.Glob(filepath.Join(dir, "designs", "*", "verdict"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no designs: %s has no designs/*/verdict", dir)
	}
	var designs []*Design
	for _, file := range files {
		d, err := readDesign(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		designs = append(designs, d)
	}
	files, err = filepath.Glob(filepath.Join(dir, "bugs", "*.patch"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := readBug(file, designs); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return designs, nil
}

func readDesign(file string) (*Design, error) {
	dir := filepath.Dir(file)
	d := &Design{Name: filepath.Base(dir), Driver: contract.Drivers[0], Contract: contract.Auto}
	if patches, err := filepath.Glob(filepath.Join(dir, "*.patch")); err != nil {
		return nil, err
	} else if len(patches) > 0 {
		d.Series = []string{dir}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case len(words) != 2:
			return nil, fmt.Errorf("%q is not a name and what it is", strings.TrimSpace(line))
		case words[0] == "driver":
			if d.Driver, err = contract.ParseDriver(words[1]); err != nil {
				return nil, err
			}
		case words[0] == "config":
			if !slices.Contains(kernel.Fragments(), words[1]) {
				return nil, fmt.Errorf("there is no fragment %q in kconfigs/, but %v", words[1], kernel.Fragments())
			}
			d.Fragments = append(d.Fragments, words[1])
		case words[0] == "contract":
			if d.Contract, err = contract.Parse(words[1]); err != nil {
				return nil, err
			}
		case words[1] == string(contract.Broken):
			p, err := parsePromise(words[0])
			if err != nil {
				return nil, err
			}
			d.Broken = append(d.Broken, p)
		default:
			return nil, fmt.Errorf("%q: only \"broken\" can be said of a promise; all others must be kept", strings.TrimSpace(line))
		}
	}
	return d, nil
}

func parsePromise(name string) (contract.Promise, error) {
	if i := slices.Index(contract.Promises(), contract.Promise(name)); i < 0 {
		return "", fmt.Errorf("there is no promise %q, but %v", name, contract.Promises())
	}
	return contract.Promise(name), nil
}

func readBug(file string, designs []*Design) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	b := &Bug{Name: strings.TrimSuffix(filepath.Base(file), ".patch")}
	// The first line is an mbox's, and no header.
	_, headers, _ := bytes.Cut(text, []byte("\n"))
	m, err := mail.ReadMessage(bytes.NewReader(headers))
	if err != nil {
		return fmt.Errorf("not a mail: %w", err)
	}
	b.Subject = strings.TrimPrefix(m.Header.Get("Subject"), "[PATCH] ")
	said := make(map[string]string)
	lines := bufio.NewScanner(m.Body)
	for lines.Scan() && lines.Text() != "---" {
		if name, value, ok := strings.Cut(lines.Text(), ": "); ok && !strings.Contains(name, " ") {
			said[name] = strings.TrimSpace(value)
		}
	}
	for _, name := range []string{"Design", "Promise", "Caught-by"} {
		if said[name] == "" {
			return fmt.Errorf("the patch has no line %q", name+": ...")
		}
	}
	b.Check = said["Caught-by"]
	b.Verdict = cmp.Or(contract.Outcome(said["Verdict"]), contract.Broken)
	if b.Promise, err = parsePromise(said["Promise"]); err != nil {
		return err
	}
	i := slices.IndexFunc(designs, func(d *Design) bool { return d.Name == said["Design"] })
	if i < 0 {
		return fmt.Errorf("there is no design %q", said["Design"])
	}
	b.Design = designs[i]
	designs[i].Bugs = append(designs[i].Bugs, b)
	return nil
}
