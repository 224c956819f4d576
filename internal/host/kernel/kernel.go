// Package kernel builds the kernels that ringproof boots, from a source tree, a series
// of patches on top of it, and a configuration.
//
// Kernels are kept in the cache by content: what was built once from the same source,
// series, configuration and compiler is not built again. The cache has one prepared
// tree for each source. A change from one series to another touches only the files
// whose content differs, so make rebuilds only what depends on them. The user's own
// tree is only read.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// Spec says what to build. The zero value is the stock kernel of Debian's
// source package with the base configuration.
type Spec struct {
	// Source is the directory of a kernel source tree, a git checkout or an
	// unpacked archive; or a tar file with one, compressed by xz, gzip, zstd,
	// bzip2 or not at all; or "URL#REF", a branch, tag or commit of a git
	// repository elsewhere, of which one commit is fetched; or a package of
	// Debian's, downloaded with apt: "debian:" and a version, as in debian:6.12
	// (the newest 6.12.y) or debian:7.2.13-1, or a suite, as in debian:sid. A
	// package that was downloaded is kept; Debian's archive is asked once a day
	// whether there is a newer one. "" is Debian's linux-source-6.12 as it is
	// installed in /usr/src, else in the cache, whatever its age, else as it is
	// downloaded.
	//
	// A git tree is built as it stands: HEAD, what is changed in tracked
	// files whether staged or not, and untracked files that are source by
	// their name (*.c, *.h, *.S, Kconfig*, Makefile*, Kbuild*) and that
	// .gitignore does not exclude.
	Source string

	// Series are applied in order, each an mbox, a mail, a diff, any of these
	// compressed by gzip, or a directory: a quilt series, a maildir, or files
	// as git format-patch writes them, else in the order of their names. Of an
	// mbox that is a thread, the patches are taken: by their numbers, in the
	// newest version, without replies. The Message-ID of a mail, or its address
	// in an archive, is a series that b4 fetches.
	Series []string

	// Version is the version of the series to take where there are several;
	// 0 is the newest.
	Version int

	// First is how many patches of the series to apply; 0 is all of them.
	First int

	// Fragments configure the kernel, later ones overriding earlier ones:
	// each the name of a file in kconfigs/ without its .config, or the path
	// of the user's own fragment (anything with a slash or a dot in it).
	// "base" always comes first and need not be named.
	Fragments []string

	// Jobs is how many commands make runs at once; 0 is one for each CPU.
	Jobs int
}

// Result is a kernel. All paths are absolute and below Dir, which is in the
// cache and not to be changed.
type Result struct {
	Dir     string
	Image   string // the bzImage, or what its architecture has
	Vmlinux string // with line tables, unless a fragment switched them off
	Modules string // has lib/modules/RELEASE below it; "" if nothing is a module
	Config  string // the .config that Kconfig made of the fragments
	Cached  bool   // it was there already
	Description
}

// Build makes the kernel of spec, or finds it in the cache. The programs that CC,
// HOSTCC and LD in the environment name are used, as by kbuild, and it is built for
// ARCH: x86_64 (the default) or arm64. What it does and
// how far it is goes to progress: in place if that is a terminal, else as
// plain lines.
//
// Errors to tell apart with errors.As: *MissingError (programs to install),
// *PatchError (which patch does not apply, and where), *ConfigError (options
// that did not come out as asked), *KconfigError (its own Kconfig fails), *MakeError (what the compiler said, and
// where the whole log is), *DiskFullError. When ctx ends, make and all that it
// started are gone before Build returns, and the next Build carries on from
// there.
func Build(ctx context.Context, spec Spec, progress io.Writer) (*Result, error) {
	result, err := build(ctx, spec, progress)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("build the kernel: %w", context.Cause(ctx))
	}
	root, rootErr := cache.Root()
	if rootErr != nil {
		return nil, rootErr
	}
	return result, diskFull(err, root)
}

// Find returns the kernel of spec if Build would take it from the cache, and
// nil if it would have to build it.
func Find(ctx context.Context, spec Spec) (*Result, error) {
	p, err := read(ctx, spec, false, io.Discard)
	if errors.Is(err, errNotFetched) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if result, ok := open(p.dir); ok {
		return result, nil
	}
	return nil, nil
}

// plan is a Spec whose parts have been read.
type plan struct {
	frags  []fragment
	series series
	src    source
	what   *Description
	dir    string // where the cache has the result, or will
}

// Subjects are those of the patches that Build would apply, in their order.
func Subjects(ctx context.Context, spec Spec) (subjects []string, err error) {
	patches, err := seriesOf(ctx, spec, io.Discard)
	for _, p := range patches {
		subjects = append(subjects, p.Subject)
	}
	return subjects, err
}

func seriesOf(ctx context.Context, spec Spec, progress io.Writer) (series, error) {
	all, err := readSeries(ctx, spec.Series, spec.Version, progress)
	if err != nil || spec.First == 0 {
		return all, err
	}
	if spec.First > len(all) {
		return nil, fmt.Errorf("cannot take the first %d patches: the series has %d", spec.First, len(all))
	}
	return all[:spec.First], nil
}

func read(ctx context.Context, spec Spec, fetch bool, progress io.Writer) (*plan, error) {
	if err := errors.Join(refuse(), CheckHost(Wanted())); err != nil {
		return nil, err
	}
	if missing := MissingPackages(spec); missing != nil {
		return nil, &MissingError{missing}
	}
	var p plan
	var err error
	if p.frags, err = readFragments(spec.Fragments); err != nil {
		return nil, err
	}
	if p.series, err = seriesOf(ctx, spec, progress); err != nil {
		return nil, err
	}
	if p.src, err = openSource(ctx, spec.Source, fetch, progress); err != nil {
		return nil, err
	}
	if p.what, err = describe(ctx, p.src, p.series, p.frags); err != nil {
		return nil, err
	}
	root, err := cache.Dir("kernels")
	if err != nil {
		return nil, err
	}
	p.dir = filepath.Join(root, p.what.Key)
	return &p, nil
}

func build(ctx context.Context, spec Spec, progress io.Writer) (*Result, error) {
	p, err := read(ctx, spec, true, progress)
	if err != nil {
		return nil, err
	}
	if result, ok := open(p.dir); ok {
		return result, nil
	}

	lock, err := cache.Acquire(ctx, "the tree of "+p.src.name(), progress)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if result, ok := open(p.dir); ok { // by the run that was waited for
		return result, nil
	}
	t, err := openTree(ctx, p.src, lock, progress)
	if err != nil {
		return nil, err
	}
	patched, err := t.apply(ctx, p.src, p.series)
	if err != nil {
		return nil, err
	}
	if err := t.checkout(ctx, p.src, patched); err != nil {
		return nil, err
	}
	obj, err := t.configure(ctx, p.frags, progress)
	if err != nil {
		return nil, err
	}
	if err := obj.make(ctx, p.what.Key, spec.Jobs, progress); err != nil {
		return nil, err
	}
	if err := obj.publish(ctx, p.dir, p.what); err != nil {
		return nil, err
	}
	result, ok := open(p.dir)
	if !ok {
		return nil, fmt.Errorf("the kernel that was just built is not complete in %s", p.dir)
	}
	result.Cached = false
	return result, nil
}
