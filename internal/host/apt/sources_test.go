package apt

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSourcesOfBothStylesAreRead(t *testing.T) {
	for name, tc := range map[string]struct {
		file, text string
		want       []string // uri suite components signed-by check-valid-until
	}{
		"deb822": {"debian.sources", `# comment
Types: deb deb-src
# in between
URIs: http://a.invalid/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/a.gpg

Types: deb
URIs: http://b.invalid/security
suites:
 bookworm-security
Components: main
`, []string{
			"http://a.invalid/debian/ bookworm main,contrib /usr/share/keyrings/a.gpg ",
			"http://a.invalid/debian/ bookworm-updates main,contrib /usr/share/keyrings/a.gpg ",
			"http://b.invalid/security bookworm-security main  ",
		}},
		"a key": {"x.sources", `Types: deb
URIs: mirror+file:/etc/apt/mirrors/a.list
Suites: sid
Components: main
Check-Valid-Until: no
Trusted: yes
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJ
 -----END PGP PUBLIC KEY BLOCK-----
`, []string{"mirror+file:/etc/apt/mirrors/a.list sid main \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY865UxYJ\n -----END PGP PUBLIC KEY BLOCK----- no"}},
		"not used": {"x.sources", `Types: deb-src
URIs: http://a.invalid
Suites: sid
Components: main

Types: deb
Enabled: no
URIs: http://a.invalid
Suites: sid
Components: main

Types: deb
URIs: http://a.invalid
Suites: ./
`, nil},
		"a line each": {"sources.list", `
# deb http://no.invalid sid main
deb http://a.invalid/debian bookworm main contrib # comment
deb	[ arch=amd64  signed-by=/a.gpg,/b.gpg check-valid-until=no trusted=yes ]	http://a.invalid/debian   sid	main
deb [signed-by=/a.gpg] http://b.invalid/security bookworm-security main
deb-src http://a.invalid/debian sid main
deb cdrom:[Debian GNU/Linux]/ bookworm main
deb http://flat.invalid/x ./
deb [broken
deb
`, []string{
			"http://a.invalid/debian bookworm main,contrib  ",
			"http://a.invalid/debian sid main /a.gpg /b.gpg no",
			"http://b.invalid/security bookworm-security main /a.gpg ",
		}},
		"other files": {"x.sources.disabled", "Types: deb\nURIs: http://a.invalid\nSuites: sid\nComponents: main\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, tc.file), []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			entries, err := readSources(filepath.Join(dir, "none.list"), dir)
			if err != nil {
				t.Fatal(err)
			}
			if tc.file == "sources.list" { // where it is usually
				again, err := readSources(filepath.Join(dir, tc.file), filepath.Join(dir, "none"))
				if err != nil || !reflect.DeepEqual(entries, again) {
					t.Errorf("%v as the one file, %v in the directory, %v", again, entries, err)
				}
			}
			var got []string
			for _, e := range entries {
				got = append(got, fmt.Sprintf("%s %s %s %s %s", e.uri, e.suite, strings.Join(e.components, ","), e.signedBy, e.checkDate))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestStanzaReadsBack: what we write for apt is what was read, without trust
// that needs no signature.
func TestStanzaReadsBack(t *testing.T) {
	const text = "Types: deb\nURIs: http://a.invalid\nSuites: sid\nComponents: main contrib\nTrusted: yes\nCheck-Valid-Until: no\nSigned-By:\n -----BEGIN\n .\n x\n"
	entries := parseDeb822(text)
	stanza := entries[0].stanza()
	if again := parseDeb822(stanza); !reflect.DeepEqual(entries, again) {
		t.Errorf("%v became %v", entries, again)
	}
	if strings.Contains(stanza, "Trusted") {
		t.Errorf("%s trusts what is not signed", stanza)
	}
}

func TestSuitesAreExchanged(t *testing.T) {
	entries := parseList(`deb http://third.invalid/debian bookworm-pgdg main
deb http://other.invalid nodistro main
deb http://browser.invalid stable main
deb http://a.invalid bookworm main
deb http://a.invalid bookworm-updates main
deb http://s.invalid bookworm-security main
`)
	a := findArchives(entries, "bookworm")
	show := func(p place) string {
		var all []string
		for _, suite := range p.suites() {
			for _, e := range p[suite] {
				if e.suite != suite {
					t.Errorf("%v is of %s", e, suite)
				}
				all = append(all, strings.TrimSuffix(strings.TrimPrefix(e.uri, "http://"), ".invalid")+":"+suite)
			}
		}
		return strings.Join(all, " ")
	}
	var got []string
	for _, p := range a.places() {
		got = append(got, show(p))
	}
	// A third party cannot be told from Debian by what its suite is called;
	// what its Release file says can (Client.update).
	want := []string{
		"a:bookworm s:bookworm-security a:bookworm-updates browser:stable",
		"browser:sid a:sid",
		"browser:experimental a:experimental",
		"browser:testing a:testing s:testing-security",
		"browser:oldstable a:oldstable s:oldstable-security",
	}
	if !slices.Equal(got, want) {
		t.Errorf("places are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for suite, want := range map[string]string{
		"trixie":            "browser:trixie a:trixie s:trixie-security",
		"trixie-backports":  "browser:trixie-backports a:trixie-backports",
		"bookworm-security": "s:bookworm-security",
	} {
		if got := show(a.suite(suite)); got != want {
			t.Errorf("%s is %s, want %s", suite, got, want)
		}
	}
	if a := findArchives(parseList("deb http://u.invalid/ubuntu noble main\n"), ""); len(a.base) != 0 {
		t.Errorf("another distribution's suite was taken for Debian's: %v", a.base)
	}
}
