package apt

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestMadison(t *testing.T) {
	const out = `linux-source-7.3 | 7.3~rc7-1~exp1 | http://a.invalid/debian experimental/main amd64 Packages
linux-source-6.1 |  6.1.192-2 | http://a.invalid/security bookworm-security/main amd64 Packages
linux-source-6.1 |  6.1.176-1 | http://a.invalid/debian bookworm/main amd64 Packages
N: something else
`
	want := []Package{
		{"linux-source-7.3", "7.3~rc7-1~exp1", "experimental"},
		{"linux-source-6.1", "6.1.192-2", "bookworm-security"},
		{"linux-source-6.1", "6.1.176-1", "bookworm"},
	}
	if got := parseMadison(out); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// state is what a run must not change of the machine's apt.
func state(t *testing.T) string {
	t.Helper()
	var s strings.Builder
	for _, dir := range []string{"/var/lib/apt/lists", "/var/cache/apt", "/var/cache/apt/archives", "/var/lib/dpkg/status"} {
		if fi, err := os.Stat(dir); err == nil {
			s.WriteString(dir + " " + fi.ModTime().Format(time.RFC3339Nano) + "\n")
		}
	}
	return s.String()
}

// TestSuiteOfTheRealArchive reads one suite of the mirror that this machine uses.
// experimental is the smallest.
func TestSuiteOfTheRealArchive(t *testing.T) {
	before := state(t)
	dir := t.TempDir()
	c, err := Open(t.Context(), dir, "", nil, os.Stderr)
	if errors.Is(err, ErrNoDebian) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var seen []Package
	found, all, err := c.Find(t.Context(), "experimental", "lib", func(all []Package) *Package {
		seen = all
		if len(all) == 0 {
			return nil
		}
		return &all[0]
	})
	if err != nil {
		if Unreachable(err) {
			t.Skip("the archive cannot be reached: ", err)
		}
		t.Fatal(err)
	}
	if found == nil || len(seen) < 10 || !reflect.DeepEqual(seen, all) {
		t.Fatalf("found %v among %d", found, len(all))
	}
	for _, p := range all {
		if p.Suite != "experimental" || !strings.HasPrefix(p.Name, "lib") || p.Version == "" {
			t.Fatalf("%+v", p)
		}
	}
	if after := state(t); after != before {
		t.Errorf("the machine's apt was\n%s\nand is\n%s", before, after)
	}

	// Who has no key that the suite is signed with gets nothing of it.
	keys := filepath.Join(dir, "none.gpg")
	if err := os.WriteFile(keys, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err = Open(t.Context(), filepath.Join(dir, "other"), "", nil, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.archives.base {
		c.archives.base[i].signedBy = keys
	}
	if _, all, err := c.Find(t.Context(), "experimental", "lib", func([]Package) *Package { return nil }); err == nil || Unreachable(err) {
		t.Errorf("without a key there are %d packages, %v", len(all), err)
	} else {
		t.Log(err)
	}
}

// TestNoNetwork: an archive that nobody serves is an error that says so, and
// leaves nothing that looks like lists.
func TestNoNetwork(t *testing.T) {
	t.Parallel() // apt tries again and again
	c, err := Open(t.Context(), t.TempDir(), "", nil, os.Stderr)
	if errors.Is(err, ErrNoDebian) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := "http://" + l.Addr().String() + "/debian"
	l.Close()
	for i := range c.archives.base {
		c.archives.base[i].uri = nowhere
	}
	_, all, err := c.Find(t.Context(), "experimental", "lib", func([]Package) *Package { return nil })
	if err == nil || !strings.Contains(err.Error(), nowhere) || len(all) != 0 {
		t.Errorf("%v, %d packages", err, len(all))
	}
	t.Log(err)
}
