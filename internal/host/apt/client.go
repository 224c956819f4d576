// Package apt gets packages from the Debian archive by apt. It checks signatures, needs
// no root, and does not touch the machine's apt: it has lists, a cache and a
// configuration of its own. Mirror, components, keys and proxies are those of the
// machine's apt configuration; only the suite is another one.
package apt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ringproof/ringproof/internal/host/child"
	"github.com/ringproof/ringproof/internal/host/meter"
)

// ErrNoDebian says that the machine's apt knows no archive of Debian's, or that
// there is no apt.
var ErrNoDebian = errors.New("no Debian archive is known here")

// Unreachable says whether an error is of the network alone, as apt tells it.
func Unreachable(err error) bool {
	for _, what := range []string{"Temporary failure resolving", "Could not resolve", "Could not connect", "Cannot initiate the connection", "Connection failed", "Connection timed out", "Unable to connect", "  502  ", "  503  ", "  504  "} {
		if strings.Contains(err.Error(), what) {
			return true
		}
	}
	return false
}

// Client is the caller's as long as no other process has one with the same
// directory: apt's own locks would fail the second.
type Client struct {
	dir      string
	lock     *os.File
	progress io.Writer
	archives archives
	updated  []entry // whose lists are there
}

// Open reads the machine's apt configuration. dir, an absolute path, is where
// the client keeps its own state; it is made if it does not exist. arch is the
// architecture of the packages, as Debian calls it, or "" for the machine's. lock is
// what keeps others away from dir; apt inherits it, so that it is held until apt has
// ended, too.
func Open(ctx context.Context, dir, arch string, lock *os.File, progress io.Writer) (*Client, error) {
	for _, name := range []string{"apt-get", "apt-cache", "apt-config"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%w: this machine has no %s", ErrNoDebian, name)
		}
	}
	c := &Client{dir: dir, lock: lock, progress: progress}
	paths, err := c.paths(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := readSources(paths["sourcelist"], paths["sourceparts"])
	if err != nil {
		return nil, err
	}
	c.archives = findArchives(entries, codename())
	if len(c.archives.base) == 0 {
		var have []string
		for _, e := range entries {
			have = append(have, fmt.Sprintf("%s in %s", e.suite, e.file))
		}
		if have == nil {
			have = []string{"nothing in " + paths["sourcelist"] + " and " + paths["sourceparts"]}
		}
		return nil, fmt.Errorf("%w: no suite of Debian's in apt's configuration (%s)", ErrNoDebian, strings.Join(have, ", "))
	}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "log", "sources"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("prepare apt: %w", err)
		}
	}
	return c, c.configure(ctx, paths, arch)
}

// codename is of the machine's release, if that is Debian's (os-release(5)).
func codename() string {
	text, _ := os.ReadFile("/etc/os-release")
	values := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = strings.Trim(value, `"'`)
	}
	if values["ID"] != "debian" {
		return ""
	}
	return values["VERSION_CODENAME"]
}

// paths are where the machine's apt configuration is, by the names that it has
// below Dir::Etc.
func (c *Client) paths(ctx context.Context) (map[string]string, error) {
	args := []string{"shell"}
	for _, name := range []string{"sourcelist/f", "sourceparts/d", "trusted/f", "trustedparts/d", "netrc/f", "netrcparts/d"} {
		variable, _, _ := strings.Cut(name, "/")
		args = append(args, variable, "Dir::Etc::"+name)
	}
	out, err := run(ctx, command{}, "apt-config", args...)
	if err != nil {
		return nil, fmt.Errorf("read apt's configuration: %w", err)
	}
	paths := make(map[string]string)
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		paths[name] = strings.Trim(value, "'")
	}
	return paths, nil
}

func (c *Client) config() string { return filepath.Join(c.dir, "apt.conf") }

// configure writes our own apt.conf: how to download as the machine does, and
// everything else apart from it. The machine's own files are not read any more,
// since they may have hooks that clean the machine's cache.
func (c *Client) configure(ctx context.Context, paths map[string]string, arch string) error {
	acquire, err := run(ctx, command{}, "apt-config", "dump", "Acquire")
	if err != nil {
		return fmt.Errorf("read apt's configuration: %w", err)
	}
	if arch == "" {
		out, err := run(ctx, command{}, "apt-config", "shell", "arch", "APT::Architecture")
		if err != nil {
			return fmt.Errorf("read apt's configuration: %w", err)
		}
		arch = strings.Trim(strings.TrimPrefix(strings.TrimSpace(out), "arch="), "'")
	}
	var b strings.Builder
	b.WriteString(acquire)
	set := func(name, value string) { fmt.Fprintf(&b, "%s \"%s\";\n", name, value) }
	set("APT::Architecture", arch)
	set("APT::Architectures::", arch)
	for _, name := range []string{"trusted", "trustedparts", "netrc", "netrcparts"} {
		set("Dir::Etc::"+name, paths[name])
	}
	for _, name := range []string{"main", "parts", "sourcelist", "sourceparts", "preferences", "preferencesparts"} {
		set("Dir::Etc::"+name, "/dev/null")
	}
	set("Dir::State", filepath.Join(c.dir, "state"))
	set("Dir::State::status", filepath.Join(c.dir, "state/status"))
	set("Dir::Cache", filepath.Join(c.dir, "cache"))
	set("Dir::Log", filepath.Join(c.dir, "log"))
	set("APT::Sandbox::User", "root") // that is: who we are, since _apt may not read our directory
	set("APT::Get::List-Cleanup", "false")
	set("Acquire::Languages", "none")
	set("Acquire::PDiffs", "false")
	set("Acquire::GzipIndexes", "true") // lists take a fifth of the room
	for _, name := range []string{"InsecureRepositories", "WeakRepositories", "DowngradeToInsecureRepositories"} {
		set("Acquire::Allow"+name, "false")
	}
	for name, text := range map[string]string{c.config(): b.String(), filepath.Join(c.dir, "state/status"): ""} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return fmt.Errorf("prepare apt: %w", err)
		}
	}
	return nil
}

// apt runs a program of apt's with our configuration, on these entries.
func (c *Client) apt(ctx context.Context, dir string, entries []entry, name string, args ...string) (string, error) {
	var stanzas []string
	for _, e := range entries {
		stanzas = append(stanzas, e.stanza())
	}
	list := filepath.Join(c.dir, "sources", "ringproof.sources")
	if err := os.WriteFile(list, []byte(strings.Join(stanzas, "\n")), 0o644); err != nil {
		return "", fmt.Errorf("prepare apt: %w", err)
	}
	args = append([]string{"-o", "Dir::Etc::sourcelist=" + list}, args...)
	return run(ctx, command{dir: dir, config: c.config(), lock: c.lock}, name, args...)
}

// update brings the lists of a place up to date.
func (c *Client) update(ctx context.Context, p place) error {
	for _, suite := range p.suites() {
		fmt.Fprintf(c.progress, "asking Debian's archive what is in %s\n", suite)
		var failed []error
		done := false
		for _, e := range p[suite] {
			if err := c.updateEntry(ctx, e); ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil {
				failed = append(failed, err)
				continue
			}
			if !slices.ContainsFunc(c.updated, func(u entry) bool { return u.uri == e.uri && u.suite == e.suite }) {
				c.updated = append(c.updated, e)
			}
			done = true
		}
		if !done && !onlyForeign(failed) {
			return fmt.Errorf("read Debian's suite %s: %w", suite, errors.Join(failed...))
		}
	}
	if len(c.updated) == 0 {
		return fmt.Errorf("%w: nothing in apt's configuration is Debian's", ErrNoDebian)
	}
	return nil
}

// errForeign says that an archive is somebody else's.
var errForeign = errors.New("not Debian's")

func onlyForeign(failed []error) bool {
	return !slices.ContainsFunc(failed, func(err error) bool { return !errors.Is(err, errForeign) })
}

func (c *Client) updateEntry(ctx context.Context, e entry) error {
	_, err := c.apt(ctx, "", []entry{e}, "apt-get", "update", "-q", "--error-on=any")
	if err != nil && strings.Contains(err.Error(), "NO_PUBKEY") {
		return fmt.Errorf("%w; the keys in apt's configuration are older than this suite: a newer debian-archive-keyring has its key", err)
	}
	if err != nil {
		return err
	}
	origin, err := c.apt(ctx, "", []entry{e}, "apt-get", "indextargets", "--format", "$(ORIGIN)", "Created-By: Packages")
	if err != nil {
		return err
	}
	if origin = strings.TrimSpace(strings.SplitN(origin, "\n", 2)[0]); origin != "Debian" {
		return fmt.Errorf("%s %s is of %q and %w", e.uri, e.suite, origin, errForeign)
	}
	return nil
}

// Package is a version of a package in the archive.
type Package struct {
	Name    string
	Version string
	Suite   string // where it is
}

func (p Package) String() string { return p.Name + " " + p.Version }

// list returns the packages in the lists that are there whose names begin with
// prefix: the newest version of a name first.
func (c *Client) list(ctx context.Context, prefix string) ([]Package, error) {
	names, err := c.apt(ctx, "", c.updated, "apt-cache", "pkgnames", prefix)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(names) == "" {
		return nil, nil
	}
	sorted := strings.Fields(names)
	slices.Sort(sorted)
	out, err := c.apt(ctx, "", c.updated, "apt-cache", append([]string{"madison"}, sorted...)...)
	if err != nil {
		return nil, err
	}
	return parseMadison(out), nil
}

// parseMadison reads what apt-cache madison prints:
//
//	linux-source-7.2 | 7.2.13-1 | http://mirror/debian sid/main amd64 Packages
func parseMadison(out string) []Package {
	var packages []Package
	for line := range strings.Lines(out) {
		columns := strings.Split(line, "|")
		if len(columns) != 3 {
			continue
		}
		where := strings.Fields(columns[2])
		if len(where) < 2 {
			continue
		}
		suite, _, _ := strings.Cut(where[1], "/")
		packages = append(packages, Package{strings.TrimSpace(columns[0]), strings.TrimSpace(columns[1]), suite})
	}
	return packages
}

// Find returns the first package that choose finds in what there is: in the
// suite of that name or, if it is "", in one place after another. choose is given
// all packages whose names begin with prefix, the newest version of a name
// first, and returns nil if there is none that it wants. Find then returns all
// that it has seen, and an error if it could not look everywhere.
func (c *Client) Find(ctx context.Context, suite, prefix string, choose func([]Package) *Package) (*Package, []Package, error) {
	places := c.archives.places()
	if suite != "" {
		places = []place{c.archives.suite(suite)}
		if len(places[0]) == 0 {
			return nil, nil, fmt.Errorf("%w: apt's configuration has no security archive for %s", ErrNoDebian, suite)
		}
	}
	var all []Package
	var failed []error
	for i, p := range places {
		if err := c.update(ctx, p); err != nil && (i == 0 || ctx.Err() != nil) {
			return nil, nil, err
		} else if err != nil { // a mirror need not have it
			failed = append(failed, err)
			continue
		}
		var err error
		if all, err = c.list(ctx, prefix); err != nil {
			return nil, nil, err
		}
		if found := choose(all); found != nil {
			return found, all, nil
		}
	}
	return nil, all, errors.Join(failed...)
}

// Download fetches a package that Find has found into dir, checks it, and
// returns the path of the .deb.
func (c *Client) Download(ctx context.Context, p Package, dir string) (string, error) {
	which := p.Name + "=" + p.Version
	uris, err := c.apt(ctx, dir, c.updated, "apt-get", "download", "-q", "--print-uris", which)
	if err != nil {
		return "", fmt.Errorf("download %s: %w", p, err)
	}
	// 'URI' NAME SIZE HASH; nothing for what is on a local disk.
	var uri, file string
	var size int64
	fmt.Sscan(uris, &uri, &file, &size)
	const mb = 1000 * 1000
	m := meter.New(c.progress, "downloading "+p.String(), "MB", int(size/mb))
	m.Doing("from " + p.Suite)
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-ended:
				return
			case <-time.After(time.Second):
				m.Set(int(sizeBelow(dir) / mb))
			}
		}
	}()
	_, err = c.apt(ctx, dir, c.updated, "apt-get", "download", "-q", which)
	close(ended)
	<-watched
	m.Set(int(sizeBelow(dir) / mb))
	m.End(err == nil)
	if err != nil {
		return "", fmt.Errorf("download %s: %w", p, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("download %s: apt-get left %v in %s and not one package (%v)", p, found, dir, err)
	}
	return found[0], nil
}

// sizeBelow is how many bytes the files below dir have.
func sizeBelow(dir string) int64 {
	var size int64
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if fi, err := d.Info(); err == nil {
				size += fi.Size()
			}
		}
		return nil
	})
	return size
}

// command is how to run a program of apt's. The zero value is with the machine's
// configuration.
type command struct {
	dir    string   // where; "" is here
	config string   // the file with its configuration
	lock   *os.File // what it inherits
}

// run runs a program in a process group of its own, so that apt's helpers end
// with it, and returns what it printed. Its error has the lines of apt's that
// say what is wrong.
func run(ctx context.Context, how command, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = how.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if how.config != "" {
		cmd.Env = append(cmd.Env, "APT_CONFIG="+how.config)
	}
	if how.lock != nil {
		cmd.ExtraFiles = []*os.File{how.lock}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := child.Run(cmd, syscall.SIGTERM, cmd.Run); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		var what []string
		for line := range strings.Lines(stderr.String()) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "E:") || strings.HasPrefix(line, "W:") {
				what = append(what, line)
			}
		}
		if what == nil {
			what = []string{strings.TrimSpace(stderr.String())}
		}
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.Join(what, "; "))
	}
	return stdout.String(), nil
}
