package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/host/apt"
	"github.com/ringproof/ringproof/internal/host/cache"
)

const (
	// debianPrefix begins the name of a source from Debian's archive.
	debianPrefix = "debian:"
	// defaultVersion is what is built if no source is named.
	defaultVersion = "6.12"
	// debianPackage begins the names of the packages with a kernel's source.
	debianPackage = "linux-source-"
	// installedDir and installedExt are around a package's name where its archive
	// is.
	installedDir, installedExt = "/usr/src/", ".tar.xz"
)

// askAgain is for how long an answer of Debian's archive counts.
const askAgain = 24 * time.Hour

// errNotFetched says that a source would have to be downloaded.
var errNotFetched = errors.New("the kernel's source has not been downloaded yet")

// request is what the user says behind "debian:".
type request string

var (
	versionRequest = regexp.MustCompile(`^[0-9]+\.[0-9]+[0-9A-Za-z.+~-]*$`)
	suiteRequest   = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
)

// parseRequest returns what is asked for by path, which begins with
// debianPrefix.
func parseRequest(path string) (request, error) {
	r := strings.TrimPrefix(path, debianPrefix)
	if !versionRequest.MatchString(r) && !suiteRequest.MatchString(r) {
		return "", fmt.Errorf("kernel source %s: neither a version, as in debian:6.12 or debian:7.2.13-1, nor a suite, as in debian:sid", path)
	}
	return request(r), nil
}

// suite is the suite that is asked for, "" if it is a version.
func (r request) suite() string {
	if suiteRequest.MatchString(string(r)) {
		return string(r)
	}
	return ""
}

// choose picks the newest package that is asked for: by its full version, by the
// kernel's, or by the first two numbers of that; of a suite the one that is
// called linux-source there.
func (r request) choose(all []apt.Package) *apt.Package {
	meta := strings.TrimSuffix(debianPackage, "-")
	var newest string
	for _, p := range all {
		if p.Name == meta && newest == "" {
			newest = p.Version
		}
	}
	for _, p := range all {
		series, ok := strings.CutPrefix(p.Name, debianPackage)
		upstream := p.Version
		if i := strings.LastIndex(upstream, "-"); i >= 0 {
			upstream = upstream[:i]
		}
		switch {
		case !ok:
		case r.suite() != "" && p.Version == newest, string(r) == series, string(r) == p.Version, string(r) == upstream:
			return &p
		}
	}
	return nil
}

// openDebian finds the archive that is asked for in the cache, or downloads it
// if fetch is set.
func openDebian(ctx context.Context, r request, fetch bool, progress io.Writer) (source, error) {
	return openFetched(ctx, r, askAgain, fetch, progress)
}

// openDefault is the source without a name. It is taken from the installed
// package or from the cache for as long as it is there, so that it does not
// change between two runs, and so that neither needs a network.
func openDefault(ctx context.Context, fetch bool, progress io.Writer) (source, error) {
	if path := installedDir + debianPackage + defaultVersion + installedExt; exists(path) {
		return openArchive(path, "Debian's "+debianPackage+defaultVersion, progress)
	}
	const forever = 1<<63 - 1 // the most that time.Since returns
	return openFetched(ctx, defaultVersion, forever, fetch, progress)
}

// openFetched opens the package that answers a request. An answer of Debian's
// archive counts for some time, and for longer where the archive cannot be
// asked.
func openFetched(ctx context.Context, r request, counts time.Duration, fetch bool, progress io.Writer) (source, error) {
	dir, err := cache.Dir("sources", "debian")
	if err != nil {
		return nil, err
	}
	have, asked := answered(dir, r)
	if have != "" && time.Since(asked) <= counts {
		return openPackage(have, progress)
	}
	if !fetch {
		if have != "" {
			return openPackage(have, progress)
		}
		return nil, errNotFetched
	}
	lock, err := cache.Acquire(ctx, "Debian's archive", progress)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	// By the run that was waited for.
	if have, asked = answered(dir, r); have != "" && time.Since(asked) <= counts {
		return openPackage(have, progress)
	}
	found, err := ask(ctx, dir, r, lock, progress)
	if err == nil {
		return openPackage(found, progress)
	}
	if have != "" && ctx.Err() == nil {
		fmt.Fprintf(progress, "%v\nusing %s, which is in the cache\n", err, filepath.Base(have))
		return openPackage(have, progress)
	}
	return nil, err
}

// answered returns the directory of the package in the cache that answers a
// request, and when Debian's archive last said so; zero if it never did, because
// the package was asked for in another way.
func answered(dir string, r request) (string, time.Time) {
	// A full version is the same package for ever.
	if have := newest(filepath.Join(dir, debianPackage+"*_"+string(r))); have != "" {
		return have, time.Now()
	}
	stamp := filepath.Join(dir, "answers", string(r))
	if name, err := os.ReadFile(stamp); err == nil {
		fi, err := os.Stat(stamp)
		if have := filepath.Join(dir, string(name)); err == nil && exists(have) {
			return have, fi.ModTime()
		}
	}
	return newest(filepath.Join(dir, debianPackage+string(r)+"_*")), time.Time{}
}

// newest returns the file that was written last of those that match; "" if there
// is none.
func newest(pattern string) string {
	var last string
	var written time.Time
	found, _ := filepath.Glob(pattern)
	for _, path := range found {
		if fi, err := os.Stat(path); err == nil && fi.ModTime().After(written) {
			last, written = path, fi.ModTime()
		}
	}
	return last
}

// ask finds out which package is meant, downloads it unless it is in the cache,
// and returns its directory. lock is on Debian's archive.
func ask(ctx context.Context, dir string, r request, lock *cache.Lock, progress io.Writer) (string, error) {
	fail := func(err error) error {
		if errors.Is(err, apt.ErrNoDebian) {
			err = fmt.Errorf("%w; give a kernel tree or an archive instead: KSRC=~/linux or KSRC=linux-6.12.tar.xz", err)
		}
		return fmt.Errorf("kernel source %s%s: %w", debianPrefix, r, err)
	}
	client, err := apt.Open(ctx, filepath.Join(dir, "apt"), "", lock.File(), progress)
	if err != nil {
		return "", fail(err)
	}
	found, all, err := client.Find(ctx, r.suite(), strings.TrimSuffix(debianPackage, "-"), r.choose)
	if err != nil {
		return "", fail(err)
	}
	if found == nil {
		return "", fail(fmt.Errorf("there is none; there are %s", versions(all)))
	}
	have := filepath.Join(dir, found.Name+"_"+found.Version)
	if !exists(have) {
		if err := requireRoom(dir, downloadRoom); err != nil {
			return "", err
		}
		err := cache.Publish(have, func(tmp string) error { return fetchPackage(ctx, client, *found, tmp, progress) })
		if err != nil {
			return "", fail(diskFull(err, dir))
		}
	}
	answers := filepath.Join(dir, "answers")
	if err := os.MkdirAll(answers, 0o777); err != nil {
		return "", fail(err)
	}
	return have, replaceFile(filepath.Join(answers, string(r)), filepath.Base(have))
}

// fetchPackage downloads a package and leaves its archive in dir, and nothing
// else.
func fetchPackage(ctx context.Context, client *apt.Client, p apt.Package, dir string, progress io.Writer) error {
	scratch, err := cache.NewScratchBeside(dir)
	if err != nil {
		return err
	}
	defer scratch.Remove()
	deb, err := client.Download(ctx, p, scratch.Path)
	if err != nil {
		return err
	}
	content := filepath.Join(scratch.Path, "content")
	if _, err := command(ctx, "dpkg-deb", "--extract", deb, content).output(); err != nil {
		return fmt.Errorf("unpack %s: %w", p, err)
	}
	name := p.Name + installedExt
	if err := os.Rename(filepath.Join(content, installedDir, name), filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("unpack %s: %w", p, err)
	}
	return nil
}

// openPackage opens the archive in the directory of a downloaded package.
func openPackage(dir string, progress io.Writer) (source, error) {
	name, version, _ := strings.Cut(filepath.Base(dir), "_")
	return openArchive(filepath.Join(dir, name+installedExt), "Debian's "+name+" "+version, progress)
}

// versions lists what can be asked for.
func versions(all []apt.Package) string {
	var b []string
	said := make(map[string]bool)
	for _, p := range all {
		if strings.HasPrefix(p.Name, debianPackage) && !said[p.Version] {
			said[p.Version] = true
			b = append(b, fmt.Sprintf("%s (%s)", p.Version, p.Suite))
		}
	}
	if b == nil {
		return "no " + debianPackage + "* packages at all"
	}
	return strings.Join(b, ", ")
}
