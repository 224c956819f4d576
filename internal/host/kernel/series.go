package kernel

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ringproof/ringproof/internal/host/cache"
)

// patch is one patch of a series.
type patch struct {
	File    string // where it was read from
	Subject string // of its mail without "[PATCH]"; the file's name for a bare diff
	text    []byte // as read: a mail, or a diff
	diff    []byte // for git apply: decoded, with LF at the ends of its lines
	strip   string // -pN of git apply, if a quilt series says so
	base    string // the commit that its series was made for, if it says so
}

// series are the patches in the order in which they are applied.
type series []patch

// mostText is far more than any series is. A larger file is something else.
const mostText = 256 << 20

// reader reads series.
type reader struct {
	ctx      context.Context
	none     repo   // no repository, for git commands that need none
	scratch  string // a directory to write to
	version  int    // the revision that is wanted; 0 is the newest
	found    bool   // it was there
	progress io.Writer
}

// readSeries reads the patches of each of paths. Of a series that is there in
// several versions it takes the one that is asked for, the newest if version
// is 0. What it leaves out it says on progress.
func readSeries(ctx context.Context, paths []string, version int, progress io.Writer) (series, error) {
	if len(paths) == 0 {
		if version != 0 {
			return nil, fmt.Errorf("version %d of which series?", version)
		}
		return nil, nil
	}
	scratch, err := cache.NewScratch()
	if err != nil {
		return nil, err
	}
	defer scratch.Remove()
	r := &reader{ctx: ctx, none: repo{filepath.Join(scratch.Path, "no-repository")}, scratch: scratch.Path, version: version, progress: progress}
	var all series
	for _, path := range paths {
		patches, err := r.path(expandHome(path))
		if err != nil {
			return nil, fmt.Errorf("series %s: %w", path, err)
		}
		all = append(all, patches...)
	}
	if version != 0 && !r.found {
		return nil, fmt.Errorf("series %s: there is no version %d in it", strings.Join(paths, " "), version)
	}
	return all, nil
}

func (r *reader) path(path string) (series, error) {
	if lists(path) {
		return r.thread(path)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, errors.New(errno(err))
	}
	if !fi.IsDir() {
		items, err := r.file(path)
		if err != nil {
			return nil, err
		}
		return r.arrange(items)
	}
	for _, dir := range []string{path, filepath.Join(path, "patches")} {
		list := filepath.Join(dir, "series")
		if fi, err := os.Stat(list); err == nil && fi.Mode().IsRegular() {
			return r.quilt(dir, list)
		}
	}
	files, err := patchFiles(path)
	if err != nil {
		return nil, err
	}
	var perFile [][]item
	for _, file := range files {
		items, err := r.file(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
		perFile = append(perFile, items)
	}
	if all := slices.Concat(perFile...); len(all) == len(files) {
		if !isMaildir(path) {
			numberByName(all)
		}
		return r.arrange(all)
	}
	// Files of several mails each.
	var all series
	for i, items := range perFile {
		patches, err := r.arrange(items)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(files[i]), err)
		}
		all = append(all, patches...)
	}
	return all, nil
}

// patchFiles lists the files in a directory that are a series: *.patch, or
// where there are none the like of it.
func patchFiles(dir string) ([]string, error) {
	for _, patterns := range [][]string{{"*.patch", "*.patch.gz"}, {"*.diff"}, {"*.mbx", "*.mbox", "*.eml"}, {"cur/*", "new/*"}} {
		var files []string
		for _, pattern := range patterns {
			// Not filepath.Glob(dir/pattern): dir may have a [ in it.
			matches, err := globIn(dir, pattern)
			if err != nil {
				return nil, err
			}
			files = append(files, matches...)
		}
		if len(files) != 0 {
			slices.Sort(files)
			return files, nil
		}
	}
	return nil, errors.New("there is no *.patch file in this directory, nor a quilt series, nor mail")
}

func globIn(dir, pattern string) ([]string, error) {
	sub, pattern := filepath.Split(pattern)
	entries, err := os.ReadDir(filepath.Join(dir, sub))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errors.New(errno(err))
	}
	var files []string
	for _, e := range entries {
		if ok, err := filepath.Match(pattern, e.Name()); err != nil {
			return nil, err
		} else if ok && !e.IsDir() {
			files = append(files, filepath.Join(dir, sub, e.Name()))
		}
	}
	return files, nil
}

func isMaildir(dir string) bool {
	return exists(filepath.Join(dir, "cur")) || exists(filepath.Join(dir, "new"))
}

// quilt reads the patches that a quilt series lists, in its order. A line is
// the name of a file, options for patch, and a comment (quilt(1), "The series
// file").
func (r *reader) quilt(dir, list string) (series, error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return nil, errors.New(errno(err))
	}
	var all series
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(" "+line, " #")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		name, strip := words[0], "1"
		for i, option := range words[1:] {
			level, ok := strings.CutPrefix(option, "-p")
			if ok && level == "" && i+2 < len(words) {
				level = words[i+2]
			} else if !ok && words[i] == "-p" {
				continue // the level itself
			}
			// A level "ab" stands for -p1 with a/ and b/.
			if _, err := strconv.Atoi(level); !ok || err != nil && level != "ab" {
				return nil, fmt.Errorf("%s has the option %s, and only -p0, -p1 and so on are known", name, option)
			} else if level != "ab" {
				strip = level
			}
		}
		items, err := r.file(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, it := range items {
			if it.damage != "" {
				return nil, it.lost()
			}
			if it.diff == nil {
				fmt.Fprintf(r.progress, "no patch in %s: left out\n", it.File)
				continue
			}
			it.strip = strip
			all = append(all, it.patch)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("its file series names no patch")
	}
	return all, nil
}

// file reads a file: the mails of an mbox, or a diff.
func (r *reader) file(file string) ([]item, error) {
	text, err := readText(file)
	if err != nil {
		return nil, err
	}
	if isMail(text) {
		return r.mails(file, text)
	}
	diff := stripCR(text)
	it := item{patch: patch{File: file, Subject: filepath.Base(file), text: text, diff: diff}}
	if it.damage, err = r.judge(diff); err != nil {
		return nil, err
	}
	if it.damage != "" {
		if what := foreignText(text); what != "" || it.damage == noDiff {
			return nil, errors.New("is neither a mail nor a diff" + what)
		}
	}
	return []item{it}, nil
}

// readText reads a file that may be compressed by gzip.
func readText(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, errors.New(errno(err))
	}
	defer f.Close()
	read := func(from io.Reader) ([]byte, error) {
		text, err := io.ReadAll(io.LimitReader(from, mostText+1))
		if err == nil && len(text) > mostText {
			err = fmt.Errorf("is larger than %d MB: no series is", mostText>>20)
		}
		return text, err
	}
	text, err := read(f)
	if err != nil {
		return nil, errors.New(errno(err))
	}
	if bytes.HasPrefix(text, []byte("\x1f\x8b")) {
		z, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("decompress it: %w", err)
		}
		if text, err = read(z); err != nil {
			return nil, fmt.Errorf("decompress it: %w", err)
		}
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// foreignText says what else a file is that people give.
func foreignText(text []byte) string {
	head := string(text[:min(len(text), 512)])
	page := strings.ToLower(head)
	switch {
	case strings.HasPrefix(head, "\xff\xfe"), strings.HasPrefix(head, "\xfe\xff"):
		return ", as far as that can be told in UTF-16: write it in UTF-8"
	case strings.Contains(page, "<html"), strings.Contains(page, "<!doctype html"):
		return ", but a web page: save what its links raw, mbox.gz or patch lead to"
	case strings.HasPrefix(head, "\xfd7zXZ"), strings.HasPrefix(head, "BZh"), strings.HasPrefix(head, "\x28\xb5\x2f\xfd"):
		return ", but compressed: only gzip is known here, so decompress it first"
	case strings.Contains(head, "\x1b["):
		return ", as far as that can be told in colours: write it with --no-color"
	case strings.HasPrefix(head, "# v2 git bundle"), strings.HasPrefix(head, "# v3 git bundle"):
		return ", but a git bundle: fetch from it, and give the tree with KSRC"
	}
	return ""
}

// diffStart matches a line that begins the changes of a file.
var diffStart = regexp.MustCompile(`(?m)^(?:diff --git |--- |\+\+\+ ).*\n`)

// stripCR turns a diff with CRLF at the ends of its lines into one with LF. A
// diff of a file with CRLF has it in the lines of the file alone.
func stripCR(diff []byte) []byte {
	if first := diffStart.Find(diff); bytes.HasSuffix(first, []byte("\r\n")) {
		return bytes.ReplaceAll(diff, []byte("\r\n"), []byte("\n"))
	}
	return diff
}

// noDiff is what judge says of a text without any.
const noDiff = "no diff"

// judge returns "" if git apply understands the diff in text, noDiff, or what
// git says is wrong with it.
func (r *reader) judge(text []byte) (damage string, err error) {
	if !diffStart.Match(text) { // as of most mails of a thread
		return noDiff, nil
	}
	for _, strip := range []string{"-p1", "-p0"} {
		_, err := r.none.git(r.ctx, "apply", "--numstat", strip, "-").in(r.scratch).input(bytes.NewReader(text)).output()
		var ce *commandError
		switch {
		case err == nil:
			return "", nil
		case r.ctx.Err() != nil || !errors.As(err, &ce):
			return "", err
		case strings.Contains(ce.stderr, "No valid patches"), strings.Contains(ce.stderr, "unrecognized input"): // until git 2.35
			return noDiff, nil
		case damage == "":
			damage = ce.stderr
		}
	}
	return damage, nil
}
