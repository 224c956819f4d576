package apt

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// entry is what the machine's apt configuration says of one archive: for each
// suite, where it is and whose signature counts (sources.list(5)).
type entry struct {
	uri        string
	suite      string
	components []string
	signedBy   string // as it stands: files, fingerprints, or a key on further lines; "" for any key that apt trusts
	checkDate  string // Check-Valid-Until, as it stands; "" if it is not there
	file       string // where it was read
}

// readSources reads sources.list and the files of sources.list.d, in apt's
// order. Files that are not there are no error.
func readSources(list, parts string) ([]entry, error) {
	files := []string{list}
	found, err := os.ReadDir(parts)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read apt's configuration: %w", err)
	}
	for _, f := range found {
		files = append(files, filepath.Join(parts, f.Name()))
	}
	var entries []entry
	for _, file := range files {
		parse := map[string]func(string) []entry{".list": parseList, ".sources": parseDeb822}[filepath.Ext(file)]
		if parse == nil {
			continue // as apt does
		}
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt's configuration: %w", err)
		}
		for _, e := range parse(string(text)) {
			e.file = file
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// fields are the options of an entry, by their names in deb822 style and in
// lower case.
type fields map[string]string

// entries multiplies URIs by suites. Suites that end in a slash are paths
// without components, and a cdrom is not always there.
func (f fields) entries() []entry {
	if !slices.Contains(strings.Fields(f["types"]), "deb") || slices.Contains([]string{"no", "false", "0", "off", "without", "disable"}, strings.ToLower(f["enabled"])) {
		return nil
	}
	var entries []entry
	for _, uri := range strings.Fields(f["uris"]) {
		for _, suite := range strings.Fields(f["suites"]) {
			if strings.HasSuffix(suite, "/") || strings.HasPrefix(uri, "cdrom:") {
				continue
			}
			entries = append(entries, entry{
				uri: uri, suite: suite, components: strings.Fields(f["components"]),
				signedBy: f["signed-by"], checkDate: f["check-valid-until"],
			})
		}
	}
	return entries
}

// parseDeb822 reads a file *.sources.
func parseDeb822(text string) []entry {
	var entries []entry
	stanza, last := make(fields), ""
	for line := range strings.Lines(text + "\n\n") {
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case line == "":
			entries = append(entries, stanza.entries()...)
			stanza, last = make(fields), ""
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				stanza[last] += "\n" + line
			}
		default:
			name, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(name))
			stanza[last] = strings.TrimSpace(value)
		}
	}
	return entries
}

// parseList reads a file *.list, one entry on a line.
func parseList(text string) []entry {
	// The names that the two styles have for what counts here.
	names := map[string]string{"signed-by": "signed-by", "check-valid-until": "check-valid-until"}
	var entries []entry
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		kind, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
		f := fields{"types": kind}
		rest = strings.TrimSpace(rest)
		if options, ok := strings.CutPrefix(rest, "["); ok {
			if options, rest, ok = strings.Cut(options, "]"); !ok {
				continue
			}
			for option := range strings.FieldsSeq(options) {
				name, value, _ := strings.Cut(option, "=")
				if name := names[strings.ToLower(strings.TrimSuffix(name, "+"))]; name != "" {
					f[name] = strings.ReplaceAll(value, ",", " ")
				}
			}
		}
		words := strings.Fields(rest)
		if len(words) < 2 {
			continue
		}
		f["uris"], f["suites"], f["components"] = words[0], words[1], strings.Join(words[2:], " ")
		entries = append(entries, f.entries()...)
	}
	return entries
}

// stanza is the entry as a file *.sources of its own. Whatever the machine
// trusts without a signature is not trusted here.
func (e entry) stanza() string {
	s := fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nTargets: Packages\n", e.uri, e.suite, strings.Join(e.components, " "))
	if e.signedBy != "" {
		s += "Signed-By: " + e.signedBy + "\n"
	}
	if e.checkDate != "" {
		s += "Check-Valid-Until: " + e.checkDate + "\n"
	}
	return s
}

// always are names that Debian's releases have had in turn, or have for ever.
var always = []string{"oldoldstable", "oldstable", "stable", "testing", "unstable", "sid", "experimental", "rc-buggy"}

// pockets are what a release has besides: bookworm-updates.
var pockets = []string{"", "updates", "security", "proposed-updates", "backports"}

// securitySuffix is what a suite of the security archive ends in. It is an
// archive of its own, with a URI of its own.
const securitySuffix = "-security"

// archives are Debian's, as far as the names of suites tell: others use the same
// names, so what Release files say decides (Client.update). codename is of the
// machine's own release.
type archives struct {
	own      []entry // all of them, with the suites that the machine uses
	base     []entry // one for each URI of the archive
	security []entry // the same of the security archive
}

func findArchives(entries []entry, codename string) archives {
	var a archives
	seen := make(map[string]bool)
	for _, e := range entries {
		release, pocket, _ := strings.Cut(e.suite, "-")
		if release != codename && !slices.Contains(always, release) || !slices.Contains(pockets, pocket) {
			continue
		}
		if !seen[e.uri+" "+e.suite] {
			seen[e.uri+" "+e.suite] = true
			a.own = append(a.own, e)
		}
		if !seen[e.uri] {
			seen[e.uri] = true
			if "-"+pocket == securitySuffix {
				a.security = append(a.security, e)
			} else {
				a.base = append(a.base, e)
			}
		}
	}
	return a
}

// place is a set of suites in which a package is looked up at once. For each
// suite there may be several entries, of which one is enough.
type place map[string][]entry

func (p place) suites() []string { return slices.Sorted(maps.Keys(p)) }

func (p place) add(entries []entry, suite string) {
	for _, e := range entries {
		e.suite = suite
		p[suite] = append(p[suite], e)
	}
}

// hasSecurity says whether there is a security archive for a suite.
func hasSecurity(suite string) bool {
	return !strings.Contains(suite, "-") && !slices.Contains([]string{"sid", "unstable", "experimental", "rc-buggy"}, suite)
}

// suite is the place of one suite and, of a release, its security updates.
func (a archives) suite(name string) place {
	p := make(place)
	if strings.HasSuffix(name, securitySuffix) {
		p.add(a.security, name)
		return p
	}
	p.add(a.base, name)
	if hasSecurity(name) {
		p.add(a.security, name+securitySuffix)
	}
	return p
}

// places are where to look for a version, in this order: what the machine has
// anyhow, then where kernels are newest, then the rest.
func (a archives) places() []place {
	own := make(place)
	for _, e := range a.own {
		own[e.suite] = append(own[e.suite], e)
	}
	places := []place{own}
	for _, name := range []string{"sid", "experimental", "testing", "stable", "oldstable"} {
		if own[name] == nil {
			places = append(places, a.suite(name))
		}
	}
	return places
}
